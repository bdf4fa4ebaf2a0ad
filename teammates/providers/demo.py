"""The demo model: a script, no AI. Which words in the message do what is in `WORDS`.

Deterministic: the same conversation gives the same turn, so a step that is made again after a
crash says the same. It is what a fresh install, the tests and the benchmarks run on.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from teammates.fencing import data_of
from teammates.providers import Connection
from teammates.providers.base import (
    ATTACHED,
    Delta,
    ModelRequest,
    Part,
    ProviderError,
    TextPart,
    Thinking,
    TokenUsage,
    ToolRequest,
    ToolResult,
    Turn,
    UserMessage,
    estimate_tokens,
)
from teammates.types import JSON

SAID = {
    "update_todos": "I kept a to-do list",
    "list_files": "I looked at the files",
    "read_file": "I read one",
    "write_file": "I wrote a file",
    "web_fetch": "I fetched a page",
    "AskUserQuestion": "You answered",
    "pretend_send": "About the message",
    "remember": "I will remember",
    "recall": "I know",
    "notify": "I told people",
    "report_issue": "I reported an issue",
    "write_document": "I kept a document",
    "learn_lesson": "I kept a lesson",
    "create_task": "I saved a task",
    "run_task": "I started it",
    "submit_result": "I gave the result",
}
UNITS = {"size": "bytes"}
PLAN = "# Plan\n\n1. Read the message\n2. Do what it says\n3. Say what happened\n"
REPORT = "month,visitors,sign-ups\nJan,1200,48\nFeb,1350,61\nMar,1610,77\n"
MOST_DELTAS = 100_000
PLAN_BEGINS = "This is what I would do:"
_SUMMARY = re.compile(r"\(Summary of what came before[^)]*\)\nDone so far: (.*?)\.\n\n")

# Shown on the page "What the demo model understands"; a test holds it against the script.
# For whoever does not know yet what to say.
EXAMPLES = (
    "Say hello, please think and show me everything",
    "Write the file report.csv and tell me what is in it",
    "Make a plan for a spring party and ask me before you begin",
)
WORDS: list[tuple[str, str]] = [
    ("think", "thinks aloud before it answers"),
    ("todo", "keeps a to-do list while it works"),
    ("file", "writes report.csv (or the file name you give) into the thread"),
    ("read", "lists the files of the thread and reads the first one"),
    ("fetch https://…", "fetches that address (public addresses only)"),
    ("ask", "asks you a question and uses the answer"),
    ("approve", "asks for your approval of an action (it only pretends to act)"),
    ("slow 200 10ms", "answers in 200 pieces with 10 ms between them (any numbers)"),
    ("remember", "keeps your message for later runs; recall looks up what is kept"),
    ("document guide.md", "keeps a document that later runs read"),
    ("lesson", "keeps what stands behind it for later runs of the same task"),
    ("notify", "tells you something on the home page and by e-mail"),
    ("delegate", "saves a task and starts it in a thread of its own"),
    ("complain", "reports an issue to those who run Muster"),
    ('use shop__list_orders {"limit": 3}', "calls that tool of a connected app"),
    ("wonder", "ends with a question to you"),
    ("stumble", "does its work, and fails when it should say what happened"),
    ("fail", "fails like a model that refuses the request"),
    ("flaky", "fails once like an overloaded provider, then works"),
    ("swamped", "is overloaded five times in a row; only what nobody watches waits that long"),
    ("hello", "does one of each: a to-do list, a question, an approval and a file"),
]


@dataclass(frozen=True)
class Stage:
    """One turn of the script: thinking, then text, then tool calls."""

    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    tools: list[tuple[str, JSON]] = field(default_factory=list)
    delay: float = 0.0  # seconds between pieces


def make_client(connection: Connection) -> "DemoClient":
    return DemoClient()


class DemoClient:
    async def close(self) -> None:
        """Nothing is open."""

    @asynccontextmanager
    async def call(self, request: ModelRequest) -> AsyncIterator["DemoCall"]:
        yield DemoCall(request)


class DemoCall:
    def __init__(self, request: ModelRequest) -> None:
        self._request = request
        self._said: list[Part] = []
        self._finished = False

    async def __aiter__(self) -> AsyncIterator[Delta]:
        stage = next_stage(self._request)
        for piece in stage.thinking:
            await asyncio.sleep(stage.delay)
            self._grow(Thinking, piece)
            yield Delta("thinking", piece)
        for piece in stage.text:
            await asyncio.sleep(stage.delay)
            self._grow(TextPart, piece)
            yield Delta("text", piece)
        turn_number = sum(isinstance(said, Turn) for said in self._request.conversation)
        for number, (name, arguments) in enumerate(stage.tools):
            call = ToolRequest(f"call_{turn_number}_{number}_{name}", name, json.dumps(arguments))
            self._said.append(call)
            yield Delta("tool", call.arguments, call.call_id, call.name)
        self._finished = True

    def _grow(self, kind: type[TextPart] | type[Thinking], piece: str) -> None:
        if self._said and type(self._said[-1]) is kind:
            last = self._said.pop()
            assert isinstance(last, TextPart | Thinking)
            piece = last.text + piece
        self._said.append(kind(piece))

    @property
    def turn(self) -> Turn:
        return Turn(list(self._said), "stop" if self._finished else "cancelled")

    @property
    def usage(self) -> TokenUsage | None:
        sent = "".join(
            said.text if isinstance(said, UserMessage | Turn) else said.content
            for said in self._request.conversation
        )
        answered = "".join(
            part.arguments if isinstance(part, ToolRequest) else part.text for part in self._said
        )
        return TokenUsage(
            input=estimate_tokens(self._request.instructions + sent),
            output=estimate_tokens(answered),
        )


def next_stage(request: ModelRequest) -> Stage:
    """The turn that follows the conversation. Raises `ProviderError` if told to fail."""
    asked = ""
    returned: list[ToolResult] = []
    for said in request.conversation:
        if isinstance(said, UserMessage):
            asked, returned = said.text.partition(ATTACHED)[0], []
        elif isinstance(said, ToolResult):
            returned.append(replace(said, content=data_of(said.content)))
    if request.instructions.startswith("Summarise"):
        return Stage(_pieces(_summary(asked)))
    if "Propose a plan first" in request.instructions:
        return _plan(returned)
    done = {result.name for result in returned if PLAN_BEGINS not in result.content}
    if summarised := _SUMMARY.match(asked):
        done |= set(summarised[1].split(", "))
        asked = asked[summarised.end() :]
    schemas = {tool.name: tool.schema for tool in request.tools}
    stages = _script(asked.lower(), asked, schemas, request.retries, returned)
    for names, make in stages:
        if not names & done:
            return make()
    raise AssertionError("the last stage is always open")


Script = list[tuple[set[str], Callable[[], Stage]]]


def _script(
    words: str,
    asked: str,
    available: dict[str, JSON],
    retries: int,
    returned: list[ToolResult],
) -> Script:
    """Stages in order, each with the tools whose results show that it is over."""
    everything = re.search(r"\bhello\b", words) is not None
    script: Script = []

    def has(pattern: str) -> bool:
        return everything or re.search(rf"\b(?:{pattern})", words) is not None

    if re.search(r"\bfail", words):
        raise ProviderError(
            "provider.rejected",
            "The demo model was told to fail. Send a message without that word.",
        )
    if ("flaky" in words and retries == 0) or ("swamped" in words and retries < 5):
        raise ProviderError(
            "provider.overloaded", "The demo model plays an overloaded provider.", is_transient=True
        )
    thinking = (
        _pieces(
            "The person wants something from me. I look for words that I know and do what they "
            "say. "
        )
        if "think" in words or everything
        else []
    )
    delay = 0.015

    def call(name: str, say: str, /, **arguments: Any) -> None:
        if name in available:
            first = not script
            script.append(
                (
                    {name},
                    lambda: Stage(
                        _pieces(say), thinking if first else [], [(name, arguments)], delay
                    ),
                )
            )

    if has("todo|to-do"):
        items = [
            {"text": "Read the message", "done": True},
            {"text": "Do what it says", "done": False},
        ]
        call("update_todos", "First I make a list. ", items=items)
    if re.search(r"\bread", words):
        call("list_files", "Let me see which files are here. ")
        listed = next((r.content for r in returned if r.name == "list_files"), "")
        if found := re.search(r'"name": "([^"]+)"', listed):
            call("read_file", "I read the first one. ", name=found.group(1))
    if address := re.search(r"https?://\S+", asked):
        call("web_fetch", "I fetch that page. ", url=address.group(0))
    if has(r"ask\b|question"):
        options = [{"label": "Short (Recommended)"}, {"label": "Long"}]
        question = {
            "question": "How long should the report be?",
            "header": "Length",
            "options": options,
            "multiSelect": False,
        }
        call("AskUserQuestion", "I have a question first. ", questions=[question])
    if re.search(r"\bremember", words):
        call("remember", "I keep that in mind. ", content=" ".join(asked.split())[:300])
    if re.search(r"\brecall", words):
        call("recall", "Let me see what I know. ")
    if re.search(r"\bdocument", words):
        named = re.search(r"\b[\w-]+\.(?:txt|md)\b", asked)
        call(
            "write_document",
            "I keep that as a document. ",
            content=PLAN,
            name=named.group(0) if named else "guide.md",
            summary="How things are done here.",
        )
    if lesson := re.search(r"\blesson\s+(.+)", asked, re.IGNORECASE):
        call("learn_lesson", "That is worth knowing next time. ", text=lesson.group(1).strip())
    if re.search(r"\bnotify", words):
        call("notify", "I let you know. ", title="News", message="This is what I wanted to say.")
    if re.search(r"\bcomplain", words):
        call(
            "report_issue",
            "I report that. ",
            title="The demo complains",
            message="I was told to complain, so I do.",
            severity="low",
        )
    if re.search(r"\bdelegate", words):
        call("create_task", "I save that as a task. ", name="Delegated", instructions="Think.")
        saved = next((r.content for r in returned if r.name == "create_task"), "")
        if found := re.search(r'"task_id": (\d+)', saved):
            call("run_task", "And I start it. ", task_id=int(found.group(1)))
    for name, arguments in re.findall(r"\buse (\w+__\w+)(?:\s+(\{.*?\}))?", asked):
        call(name, f"I use {name}. ", **_arguments(arguments))
    if has("approv"):
        call(
            "pretend_send",
            "Next I would send a message; that needs your approval. ",
            to="kim@example.com",
            text="The report is ready.",
        )
    if has(r"file|report|write"):
        named = re.search(r"\b[\w-]+\.(?:csv|txt|md|json)\b", asked)
        call(
            "write_file",
            "Now I write the file. ",
            name=named.group(0) if named else "report.csv",
            content=PLAN if named and named.group(0).endswith(".md") else REPORT,
        )
    if "submit_result" in available:
        call("submit_result", "This is the result. ", **_sample(available["submit_result"]))
    script.append(
        (set(), lambda: _closing(words, asked, returned, [] if script[:-1] else thinking))
    )
    return script


def _plan(returned: list[ToolResult]) -> Stage:
    """Propose what will be done; once more, with the remark in it, if somebody wants changes."""
    remarks = [
        found[1].strip()
        for result in returned
        if (found := re.search(r"Revise:?([^\"]*)", result.content))
    ]
    text = f"{PLAN_BEGINS}\n\n1. Read the message\n2. Do what it says\n3. Say what happened"
    text += "".join(f"\n- Changed: {remark or 'as you wish'}" for remark in remarks)
    question = {
        "question": text,
        "header": "Plan Approval",
        "multiSelect": False,
        "options": [{"label": "Approve"}, {"label": "Revise"}],
    }
    said = "I changed the plan. " if remarks else "I propose a plan first. "
    return Stage(_pieces(said), tools=[("AskUserQuestion", {"questions": [question]})])


def _summary(asked: str) -> str:
    done = dict.fromkeys(re.findall(r"^Result of (\w+):", asked, re.MULTILINE))
    return f"Done so far: {', '.join(done) or 'nothing'}."


def _arguments(text: str) -> JSON:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _sample(schema: JSON) -> Any:
    """The simplest value that fits a schema."""
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: _sample(part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [_sample(schema.get("items", {}))] * max(1, schema.get("minItems", 1))
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "boolean":
        return True
    return None if kind == "null" else "demo".ljust(schema.get("minLength", 0), ".")


def _closing(words: str, asked: str, returned: list[ToolResult], thinking: list[str]) -> Stage:
    if "stumble" in words:
        raise ProviderError("provider.rejected", "The demo model was told to stumble.")
    if "wonder" in words:
        return Stage(_pieces("I did what I could. Shall I go on like this?"), thinking, delay=0.015)
    if slow := re.search(r"slow(?:\s+(\d+))?(?:\s+(\d+)\s*ms)?", words):
        count = min(int(slow.group(1) or 50), MOST_DELTAS)
        delay = int(slow.group(2) or 50) / 1000
        pieces = [f"word{number} " for number in range(1, count + 1)]
        return Stage(pieces, thinking, delay=delay)
    if not asked.strip():
        return Stage(["Hello! ", "Nobody wrote anything yet, ", "so I am done."], delay=0.02)
    if not returned:
        quoted = asked.strip().replace("\n", "\n> ")
        return Stage(
            _pieces(
                f"I am the **demo model**: a script, not an AI. You wrote:\n\n> {quoted}\n\n"
                "Say *hello* to see everything I can do, or add a model key in the settings."
            ),
            thinking,
            delay=0.015,
        )
    lines = ["Done. This is what happened:", ""]
    lines += [f"- {SAID.get(r.name, r.name)}: {_short(_plain(r.content))}" for r in returned]
    return Stage(_pieces("\n".join(lines)), delay=0.015)


def _pieces(text: str) -> list[str]:
    """Words with the space behind them, like the tokens of a real model."""
    return re.findall(r"\S+\s*|\s+", text)


def _plain(content: str) -> str:
    """What a tool returned, as a person would say it."""
    try:
        value = json.loads(content)
    except ValueError:
        return content

    def leaves(part: Any) -> list[str]:
        if isinstance(part, dict):
            return [leaf for name, item in part.items() for leaf in _named(name, leaves(item))]
        if isinstance(part, list):
            return [leaf for item in part for leaf in leaves(item)]
        return [str(part)]

    return ", ".join(leaves(value)) or "nothing"


def _named(name: str, leaves: list[str]) -> list[str]:
    """Numbers need their name, texts speak for themselves."""
    if len(leaves) == 1 and leaves[0].isdecimal():
        return [f"{leaves[0]} {UNITS.get(name, name)}"]
    return [leaf for leaf in leaves if leaf not in ("True", "False")]


def _short(content: str) -> str:
    line = " ".join(content.split())
    return line if len(line) <= 120 else line[:117] + "…"
