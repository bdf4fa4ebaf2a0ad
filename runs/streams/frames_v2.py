"""v2's frames: the AI-SDK vocabulary in ASCII JSON (contract v2 3).

What an event becomes depends on what came before it (is a text block open?). That state is a
small value computed from the events alone, so readers share the frames of an event.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

from runs.events.log import LoggedEvent
from runs.models import Run
from teammates.types import JSON

VOIDING = (
    "run.attempt.lost",
    "run.attempt.released",
    "run.llm.retry",
    "run.llm.adjusted",
    "run.provider_fallback",
)
_BLOCKS = {
    "text": ("text-start", "text-delta", "text-end"),
    "reasoning": ("reasoning-start", "reasoning-delta", "reasoning-end"),
}


@dataclass(frozen=True)
class StreamState:
    message: str = ""  # the id of the open message
    block: str = ""  # "text", "reasoning" or none
    block_id: str = ""
    calls: tuple[str, ...] = ()  # tool calls whose arguments are still coming


def frame(kind: str, **fields: Any) -> bytes:
    return f"data: {json.dumps({'type': kind, **fields}, separators=(',', ':'))}\n\n".encode()


DONE = b"data: [DONE]\n\n"


class V2Frames:
    """The dialect of one v2 stream.

    `known_until` is the run's last number when the stream was opened: a gate before it was
    answered. `void` are the ranges of numbers that a lost attempt left behind.
    """

    def __init__(self, run: Run, *, is_join: bool = False) -> None:
        self._run_id = run.pk
        self._known_until = run.last_seq
        self._void = void_ranges(run) if run.last_seq > 1 else []
        self._is_replaying = is_join
        self._state = StreamState()
        self.is_over = False

    def begin(self) -> bytes:
        return frame("metadata", run_id=self._run_id)

    def keep_alive(self) -> bytes:
        return b": keepalive\n\n"

    def end(self) -> bytes:
        return b""

    def draws(self, batch: list[LoggedEvent]) -> bool:
        return False

    def write(self, batch: list[LoggedEvent]) -> bytes:
        return b"".join(self._write_one(event, is_last=event is batch[-1]) for event in batch)

    def _write_one(self, event: LoggedEvent, *, is_last: bool) -> bytes:
        if any(first <= event.seq <= last for first, last in self._void):
            written = b""
        elif event.type == "run.waiting_for_input":
            written = self._gate(event, is_last=is_last)
        elif event.type == "run.input_provided":
            is_news = event.seq > self._known_until
            written = (
                frame(
                    "permission_resolved",
                    request_id=event.data.get("request_id"),
                    decision=event.data.get("decision"),
                )
                if is_news
                else b""
            )
        else:
            before = self._state
            written, self._state = event.frame(("v2", before), lambda: translate(before, event))
        if self._is_replaying and event.seq >= self._known_until:
            self._is_replaying = False
            if self.is_over:  # a gate's frames must be the last
                return frame("replay_complete") + written
            if not event.is_terminal:
                return written + frame("replay_complete")
        return written

    def _gate(self, event: LoggedEvent, *, is_last: bool) -> bytes:
        if event.seq < self._known_until:
            return b""  # answered before this stream began
        asked = {
            "request_id": event.data["request_id"],
            "tool_use_id": event.data["tool_call_id"],
            "tool_name": event.data["tool_name"],
            "tool_input": event.data["arguments"],
        }
        # The body ends here: the run waits without a stream, and the client joins again.
        self.is_over = is_last
        return frame("permission_request", **asked) + frame("awaiting_approval", **asked)


def void_ranges(run: Run) -> list[tuple[int, int]]:
    """The numbers of the events that lost attempts left behind, in one query."""
    voiding = run.events.filter(type__in=VOIDING, data__has_key="void_from_seq")
    return [
        (event.data["void_from_seq"], event.data["void_to_seq"])
        for event in voiding.order_by("seq")
    ]


def translate(state: StreamState, event: LoggedEvent) -> tuple[bytes, StreamState]:
    """The frames of one event, and the state behind it."""
    data = event.data
    match event.type:
        case "step.started" if data["kind"] == "model":
            closed, state = _close_message(state)
            message = f"msg_{event.run_id}_{data['step']}"
            start = frame("message_start", message={"id": message, "role": "assistant"})
            return closed + start, StreamState(message=message)
        case "message.delta":
            block = "reasoning" if data.get("channel") == "thinking" else "text"
            opened, state = _open_block(state, block, event.seq)
            delta = frame(_BLOCKS[block][1], id=state.block_id, delta=data["content_delta"])
            return opened + delta, state
        case "tool.call.delta":
            return _call_delta(state, data)
        case "step.completed" if data["kind"] == "model":
            return _close_message(state)
        case "tool.result":
            result = data.get("result", {"error": data.get("error")})
            return _result(data["tool_call_id"], result), state
        case "tool.denied":
            return _result(data["tool_call_id"], {"denied": data.get("message")}), state
        case "todo.updated":
            todos = [
                {"content": item["text"], "status": "completed" if item["done"] else "pending"}
                for item in data["items"]
            ]
            return frame("todo-update", toolCallId="", todos=todos), state
        case type if type in VOIDING:
            return _close_message(state)
        case "run.completed" | "run.failed" | "run.cancelled" | "run.closed":
            closed, state = _close_message(state)
            return closed + _ending(event), state
    return b"", state


def _open_block(state: StreamState, block: str, seq: int) -> tuple[bytes, StreamState]:
    if state.block == block:
        return b"", state
    closed, state = _close_block(state)
    block_id = f"{block}_{seq}"
    opened = frame(_BLOCKS[block][0], id=block_id)
    return closed + opened, replace(state, block=block, block_id=block_id)


def _close_block(state: StreamState) -> tuple[bytes, StreamState]:
    if not state.block:
        return b"", state
    closed = frame(_BLOCKS[state.block][2], id=state.block_id)
    return closed, replace(state, block="", block_id="")


def _call_delta(state: StreamState, data: JSON) -> tuple[bytes, StreamState]:
    written, state = _close_block(state)
    call_id = data["tool_call_id"]
    if call_id not in state.calls:
        written += frame("tool-call-start", toolCallId=call_id, toolName=data["tool_name"])
        state = replace(state, calls=(*state.calls, call_id))
    if data["arguments_delta"]:
        written += frame("tool-call-delta", toolCallId=call_id, delta=data["arguments_delta"])
    return written, state


def _close_message(state: StreamState) -> tuple[bytes, StreamState]:
    written, state = _close_block(state)
    for call_id in state.calls:
        written += frame("tool-call-end", toolCallId=call_id)
    if state.message:
        written += frame("message-end", messageId=state.message)
    return written, StreamState()


def _result(call_id: str, result: Any) -> bytes:
    return frame("tool-result-start", toolCallId=call_id) + frame(
        "tool-result-end", toolCallId=call_id, result=result
    )


def _ending(event: LoggedEvent) -> bytes:
    data = event.data
    usage, cost = data["usage"], data["cost"]["amount_micros"]
    stop_reason = data.get("stop_reason") or None
    said: JSON = {
        "stop_reason": stop_reason,
        "unresolved_tool_use_ids": [],
        "completion_state": event.type.removeprefix("run."),
    }
    metrics = frame(
        "run_metrics",
        execution_time_ms=data["duration_ms"],
        input_tokens_used=usage["input_tokens"],
        output_tokens_used=usage["output_tokens"],
        claude_token_cost_usd=None if cost is None else cost / 1_000_000,
        **said,
    )
    if event.type == "run.completed":
        return metrics + frame("done", **said) + DONE
    if event.type == "run.failed":
        code = data["error_class"].rpartition(".")[2]
        error = frame("error", error=data["message"], error_code=code)
        return error + metrics + frame("done", **said) + DONE
    return metrics + frame("cancelled", reason=data.get("reason", "cancelled")) + DONE
