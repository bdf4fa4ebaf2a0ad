"""A loopback server that speaks the wire formats of OpenAI's chat completions and of Anthropic's
messages, streamed, with every way in which they break. What it does is in the model's name.
"""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], list[bytes]]
TEXT = ["Hel", "lo ", "wörld"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "FakeModels"

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        """The models that the server lists."""
        self.server.requests.append({"path": self.path, "headers": self.headers})
        status, listed = self.server.listed
        content = json.dumps(listed).encode()
        self._send(status, {"Content-Type": "application/json"}, [content])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, "body": body, "headers": self.headers})
        model = body.get("model") or self.path.rpartition("/")[2].partition(":")[0]  # Google's
        if self.path.endswith("/embeddings") and not self.server.answers:
            self._send(*self.server.embeds(body))
            return
        if self.server.answer:
            self._send(*self.server.answer(body))
            return
        if self.server.answers:
            self._send(*self.server.answers.pop(0))
            return
        posted = [request["body"] for request in self.server.requests if "body" in request]
        count = sum(one.get("model") == model for one in posted)
        if model.startswith("once-") and count > 1:
            model = "ok"
        model = model.removeprefix("once-")
        if model in ERRORS:
            self._error(*ERRORS[model])
        elif self.path.endswith("/messages"):
            usage = self.server.prompt_cache.usage_of(body) if model == "steps" else USED_MESSAGE
            self._stream(anthropic(body, model, usage))
        else:
            self._stream(openai(body, model))

    def _send(self, status: int, headers: dict[str, str], pieces: list[bytes]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(0.002)  # each in a packet of its own
            if b"Half" in piece:
                time.sleep(self.server.silent_seconds)
        self.wfile.write(b"0\r\n\r\n")

    def _error(self, status: int, code: str, headers: dict[str, str]) -> None:
        if self.path.endswith("/messages"):
            told: dict[str, Any] = {"type": "error", "error": {"type": code, "message": code}}
        else:
            told = {"error": {"message": code, "type": code, "code": code}}
        content = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, pieces: Iterator[bytes | None]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for piece in pieces:
                if piece is None:  # the connection dies in the middle of a chunk
                    self.wfile.write(b"ff\r\nhalf")
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.server.hung_up.set()


ERRORS: dict[str, tuple[int, str, dict[str, str]]] = {
    "429": (429, "rate_limit_error", {"retry-after": "0.05"}),
    "503": (503, "overloaded_error", {}),
    "401": (401, "authentication_error", {}),
    "404": (404, "not_found_error", {}),
    "400": (400, "invalid_request_error", {}),
}


def sse(data: Any, event: str = "") -> bytes:
    named = f"event: {event}\n" if event else ""
    return f"{named}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


STREAM = {"Content-Type": "text/event-stream"}
Answer = tuple[int, dict[str, str], list[bytes]]


CHUNK = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def _chunk(delta: dict[str, Any], finish: str | None = None, model: str = "m") -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return sse(CHUNK | {"model": model, "choices": [choice]})


def chat(
    *deltas: dict[str, Any],
    finish: str | None = "stop",
    usage: bool | dict[str, int] = True,
    done: bool = True,
) -> Answer:
    """A chat completion of these deltas."""
    pieces = [_chunk({"role": "assistant"}), *map(_chunk, deltas)]
    if finish:
        pieces.append(_chunk({}, finish))
    if usage:
        pieces.append(sse(CHUNK | {"choices": [], "usage": USED if usage is True else usage}))
    return 200, STREAM, [*pieces, *([sse("[DONE]")] if done else [])]


def gemini(*chunks: list[dict[str, Any]], finish: str | None = "STOP", **used: int) -> Answer:
    """A streamed answer of Gemini's: the parts of each chunk, and how it ended."""
    usage = {"promptTokenCount": 100, "candidatesTokenCount": 7, "totalTokenCount": 107} | used
    pieces = []
    for number, parts in enumerate(chunks, start=1):
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if finish and number == len(chunks):
            candidate["finishReason"] = finish
        told = {"usageMetadata": usage, "modelVersion": "m", "responseId": "r1"}
        pieces.append(sse({"candidates": [candidate], **told}))
    return 200, STREAM, pieces


def response(*items: dict[str, Any], status: str = "completed", **fields: Any) -> Answer:
    """A streamed answer of OpenAI's Responses API that has these output items."""
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 107,
    }
    whole = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "tools": []}
    whole |= {"parallel_tool_calls": True, "tool_choice": "auto", "output": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": whole | {"status": "in_progress"}}
    ]
    for index, item in enumerate(items):
        of_item = {"output_index": index, "item_id": item["id"]}
        begun = item | {"status": "in_progress"}
        begun |= {"message": {"content": []}, "function_call": {"arguments": ""}}.get(
            item["type"], {"summary": [], "encrypted_content": None}
        )
        events.append({"type": "response.output_item.added", "output_index": index, "item": begun})
        events += [one | of_item for one in _pieces_of(item)]
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    ended = {"status": status, "output": list(items), "usage": usage, **fields}
    events.append({"type": f"response.{status}", "response": whole | ended})
    numbered = [one | {"sequence_number": number} for number, one in enumerate(events)]
    return 200, STREAM, [sse(one, one["type"]) for one in numbered]


def _pieces_of(item: dict[str, Any]) -> list[dict[str, Any]]:
    if item["type"] == "function_call":
        name = "response.function_call_arguments"
        whole = item["arguments"]
        return [
            {"type": f"{name}.delta", "delta": whole[:5]},
            {"type": f"{name}.delta", "delta": whole[5:]},
            {"type": f"{name}.done", "arguments": whole, "name": item["name"]},
        ]
    if item["type"] == "reasoning":
        name, told = "response.reasoning_summary", item["summary"]
        return [
            piece | {"summary_index": index}
            for index, part in enumerate(told)
            for piece in (
                {"type": f"{name}_part.added", "part": part | {"text": ""}},
                {"type": f"{name}_text.delta", "delta": part["text"]},
                {"type": f"{name}_text.done", "text": part["text"]},
                {"type": f"{name}_part.done", "part": part},
            )
        ]
    pieces: list[dict[str, Any]] = []
    for index, part in enumerate(item["content"]):
        kind = "refusal" if part["type"] == "refusal" else "output_text"
        text = part.get("text") or part.get("refusal")
        key = "refusal" if kind == "refusal" else "text"
        of_part = {"content_index": index}
        pieces += [
            {"type": "response.content_part.added", "part": part | {key: ""}, **of_part},
            {"type": f"response.{kind}.delta", "delta": text, "logprobs": [], **of_part},
            {"type": f"response.{kind}.done", key: text, "logprobs": [], **of_part},
            {"type": "response.content_part.done", "part": part, **of_part},
        ]
    return pieces


USED = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}


# Words that mean the same have a number of a vector in common.
MEANINGS = [("holiday", "vacation", "time off"), ("tea", "brew"), ("travel", "train", "journey")]


def embeddings(body: dict[str, Any]) -> Answer:
    """Vectors of the texts that were asked for, as an OpenAI-compatible server answers."""
    texts = [text.lower() for text in body["input"]]
    vectors = [[0.1 + any(word in text for word in words) for words in MEANINGS] for text in texts]
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(vectors)
    ]
    used = {"prompt_tokens": 5 * len(texts), "total_tokens": 5 * len(texts)}
    told = {"object": "list", "data": data, "model": body["model"], "usage": used}
    return 200, {"Content-Type": "application/json"}, [json.dumps(told).encode()]


def refused(status: int, message: str, code: str | None = None, **headers: str) -> Answer:
    """An error object of OpenAI's."""
    error = {"message": message, "type": code, "code": code}
    kind = {"Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return status, kind, [json.dumps({"error": error}).encode()]


def page(status: int, html: str) -> Answer:
    return status, {"Content-Type": "text/html"}, [html.encode()]


def has_tool_result(body: dict[str, Any]) -> bool:
    return any(
        m["role"] == "tool"
        or (
            isinstance(m.get("content"), list)
            and any(p.get("type") == "tool_result" for p in m["content"])
        )
        for m in body["messages"]
    )


def asked_for(body: dict[str, Any]) -> list[tuple[str, str]]:
    """The calls that an obedient model makes: lines `CALL name {json}` of whatever it was asked."""
    asked = [m["content"] for m in body["messages"] if m["role"] == "user"]
    return re.findall(r"^CALL (\w+) (\{.*\})$", str(asked[-1]), re.MULTILINE)


def openai(body: dict[str, Any], model: str) -> Iterator[bytes | None]:
    chunk = partial(_chunk, model=model)
    yield chunk({"role": "assistant", "content": ""})
    if model == "malformed":
        yield sse("{not json")
        return
    if model == "nonsense":
        yield sse({"hello": ["world"]})
        yield sse("[DONE]")
        return
    if model == "think":
        yield chunk({"reasoning_content": "Hmm, "})
        yield chunk({"reasoning_content": "yes."})
    if model == "obeys":  # whoever speaks, and tells them all that it found out
        if has_tool_result(body) or not asked_for(body):
            found = [str(m["content"]) for m in body["messages"] if m["role"] == "tool"]
            yield chunk({"content": "\n".join(["I obeyed.", *found])})
            yield chunk({}, "stop")
        else:
            for number, (name, arguments) in enumerate(asked_for(body)):
                made = {"name": name, "arguments": arguments}
                call = {"index": number, "id": f"c{number}", "type": "function", "function": made}
                yield chunk({"tool_calls": [call]})
            yield chunk({}, "tool_calls")
    elif model in ("tool", "badtool", "unknowntool") and not (
        model == "tool" and has_tool_result(body)
    ):
        name = "no_such_tool" if model == "unknowntool" else "write_file"
        arguments = (
            '{"name": "a.txt"' if model == "badtool" else '{"name": "a.txt", "content": "x"}'
        )
        call = {
            "index": 0,
            "id": "call_1",
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        yield chunk({"tool_calls": [call]})
        for half in (arguments[:9], arguments[9:]):
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": half}}]})
        yield chunk({}, "tool_calls")
    else:
        for number in range(400 if model == "slow" else 1):
            for piece in TEXT:
                yield chunk({"content": piece})
            if model == "slow":
                time.sleep(0.02)
            if model == "reset" and number == 0:
                yield None
                return
        if model == "truncated":
            return
        yield chunk({}, "stop")
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 7,
        "total_tokens": 107,
        "prompt_tokens_details": {"cached_tokens": 40},
    }
    yield sse(
        {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": model,
            "choices": [],
            "usage": usage,
        }
    )
    yield sse("[DONE]")


class PromptCache:
    """Anthropic's: what stands in front of a mark is kept, and read by a request that begins so.
    A token is a byte."""

    def __init__(self) -> None:
        self._kept: dict[str, int] = {}  # tokens by what was sent up to a mark
        self.sizes: list[int] = []  # of each request

    def usage_of(self, body: dict[str, Any]) -> dict[str, int]:
        sent, marks = "", []
        blocks = [*body.get("tools", []), *_blocks(body.get("system")), *_said(body["messages"])]
        for block in blocks:
            is_marked = block.pop("cache_control", None) is not None
            sent += json.dumps(block, sort_keys=True)
            if is_marked:
                marks.append(sent)
        if body.get("cache_control"):  # at the end, wherever that is
            marks.append(sent)
        self.sizes.append(len(sent))
        read = max((len(known) for known in self._kept if sent.startswith(known)), default=0)
        written = max((len(mark) for mark in marks), default=0)
        self._kept |= {mark: len(mark) for mark in marks}
        return {
            "input_tokens": len(sent) - max(read, written),
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": max(0, written - read),
            "output_tokens": 1,
        }


def _blocks(content: Any) -> list[dict[str, Any]]:
    if content is None:
        return []
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _said(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [block | {"of": m["role"]} for m in messages for block in _blocks(m["content"])]


def event(kind: str, **fields: Any) -> bytes:
    """An event of Anthropic's."""
    return sse({"type": kind, **fields}, kind)


def message(*blocks: tuple[dict[str, Any], list[dict[str, Any]]], stop: str = "end_turn") -> Answer:
    """An answer of Anthropic's: blocks as they begin, each with its deltas."""

    begun = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": []}
    begun |= {"stop_reason": None, "stop_sequence": None, "usage": USED_MESSAGE}
    pieces = [event("message_start", message=begun), event("ping")]
    for index, (block, deltas) in enumerate(blocks):
        pieces.append(event("content_block_start", index=index, content_block=block))
        pieces += [event("content_block_delta", index=index, delta=delta) for delta in deltas]
        pieces.append(event("content_block_stop", index=index))
    end = {"stop_reason": stop, "stop_sequence": None}
    pieces.append(event("message_delta", delta=end, usage=USED_MESSAGE | {"output_tokens": 7}))
    return 200, STREAM, [*pieces, event("message_stop")]


USED_MESSAGE = {
    "input_tokens": 50,
    "output_tokens": 1,
    "cache_read_input_tokens": 40,
    "cache_creation_input_tokens": 10,
}
STEPS = 9  # tool calls of the model "steps", one at a time


def _has_more_steps(body: dict[str, Any]) -> bool:
    done = [block for block in _said(body["messages"]) if block["type"] == "tool_result"]
    return len(done) < STEPS


def anthropic(
    body: dict[str, Any], model: str, usage: dict[str, int] = USED_MESSAGE
) -> Iterator[bytes | None]:
    yield event(
        "message_start",
        message={
            "id": "m1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        },
    )
    if model == "malformed":
        yield sse("{not json", "content_block_delta")
        return
    if model == "think":
        block = {"type": "thinking", "thinking": "", "signature": ""}
        yield event("content_block_start", index=0, content_block=block)
        yield event(
            "content_block_delta",
            index=0,
            delta={"type": "thinking_delta", "thinking": "Hmm, yes."},
        )
        yield event(
            "content_block_delta", index=0, delta={"type": "signature_delta", "signature": "sig"}
        )
        yield event("content_block_stop", index=0)
    index = 1 if model == "think" else 0
    stop = "end_turn"
    if (model == "tool" and not has_tool_result(body)) or (
        model == "steps" and _has_more_steps(body)
    ):
        yield event(
            "content_block_start",
            index=index,
            content_block={
                "type": "tool_use",
                "id": f"call_{len(body['messages'])}",
                "name": "write_file",
                "input": {},
            },
        )
        # Each step's own: the same call over and over would be a loop.
        name = f"{len(body['messages'])}.txt" if model == "steps" else "a.txt"
        for half in (f'{{"name": "{name}",', ' "content": "x"}'):
            yield event(
                "content_block_delta",
                index=index,
                delta={"type": "input_json_delta", "partial_json": half},
            )
        stop = "tool_use"
    else:
        yield event("content_block_start", index=index, content_block={"type": "text", "text": ""})
        for _ in range(400 if model == "slow" else 1):
            for piece in TEXT:
                yield event(
                    "content_block_delta", index=index, delta={"type": "text_delta", "text": piece}
                )
            if model == "slow":
                time.sleep(0.02)
        if model == "reset":
            yield None
            return
        if model == "truncated":
            return
        if model == "midstream":
            yield event("error", error={"type": "overloaded_error", "message": "Overloaded"})
            return
    yield event("content_block_stop", index=index)
    yield event(
        "message_delta",
        delta={"stop_reason": stop, "stop_sequence": None},
        usage={"output_tokens": 7},
    )
    yield event("message_stop")


class FakeModels(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        # What the next requests get, whatever their model: status, headers, pieces of the body.
        self.answers: list[Answer] = []
        self.answer: Callable[[Any], Answer] | None = None  # what each request's body gets
        self.embeds: Callable[[Any], Answer] = embeddings
        self.listed: tuple[int, Any] = (200, {"data": []})
        self.hung_up = threading.Event()
        self.prompt_cache = PromptCache()
        self.silent_seconds = 0.0  # behind a piece that says Half

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve() -> Iterator[FakeModels]:
    server = FakeModels()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
