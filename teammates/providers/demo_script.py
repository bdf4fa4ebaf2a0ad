"""What the demo model says: stages that follow from the words of a message."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from textwrap import shorten
from typing import Any

from teammates.providers.base import (
    ATTACHED,
    ModelRequest,
    ProviderError,
    ToolResult,
    UserMessage,
)
from teammates.quoting import data_of
from teammates.types import JSON

SAID = {
    "update_todos": "I kept a to-do list",
    "list_files": "I looked at the files",
    "read_file": "I read one",
    "write_file": "I wrote a file",
    "run_python": "I calculated",
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
CHART = """import charts
visitors = {"Jan": 1200, "Feb": 1350, "Mar": 1610}
print("Visitors in all:", sum(visitors.values()))
charts.bar(list(visitors), list(visitors.values()), title="Visitors")
"""
MOST_DELTAS = 100_000
PLAN_BEGINS = "This is what I would do:"
_SUMMARY = re.compile(r"\(Summary of what came before[^)]*\)\nDone so far: (.*?)\.\n\n")


@dataclass(frozen=True)
class Stage:
    """One turn of the script: thinking, then text, then tool calls."""

    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    tools: list[tuple[str, JSON]] = field(default_factory=list)
    delay: float = 0.0  # seconds between pieces


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
    for names, make in Script(asked, schemas, request.retries, returned).stages:
        if not names & done:
            return make()
    raise AssertionError("the last stage is always open")


class Script:
    """Stages in order, each with the tools whose results show that it is over."""

    def __init__(
        self, asked: str, available: dict[str, JSON], retries: int, returned: list[ToolResult]
    ) -> None:
        self.stages: list[tuple[set[str], Callable[[], Stage]]] = []
        self._asked, self._words = asked, asked.lower()
        self._available, self._returned = available, returned
        self._does_everything = self._says(r"hello\b")
        self._fail_if_told(retries)
        thought = "Somebody wants something from me. I look for words that I know. "
        thinks = "think" in self._words or self._does_everything
        self._thinking = _pieces(thought) if thinks else []
        for part in (
            self._keep_a_list,
            self._read,
            self._ask,
            self._keep_what_is_known,
            self._calculate,
            self._tell_people,
            self._start_work,
            self._use_apps,
            self._ask_for_approval,
            self._write_a_file,
            self._give_the_result,
        ):
            part()
        left = [] if self.stages else self._thinking
        closing = lambda: _closing(self._words, asked, returned, left)  # noqa: E731
        self.stages.append((set(), closing))

    def _says(self, pattern: str) -> bool:
        return re.search(rf"\b(?:{pattern})", self._words) is not None

    def _has(self, pattern: str) -> bool:
        return self._does_everything or self._says(pattern)

    def _result_of(self, tool: str) -> str:
        return next((one.content for one in self._returned if one.name == tool), "")

    def _call(self, name: str, say: str, /, **arguments: Any) -> None:
        if name in self._available:
            thinking = [] if self.stages else self._thinking
            stage = Stage(_pieces(say), thinking, [(name, arguments)], delay=0.015)
            self.stages.append(({name}, lambda: stage))

    def _fail_if_told(self, retries: int) -> None:
        if self._says("fail"):
            raise ProviderError(
                "provider.rejected",
                "The demo model was told to fail. Send a message without that word.",
            )
        is_flaky = "flaky" in self._words and retries == 0
        if is_flaky or ("swamped" in self._words and retries < 5):
            raise ProviderError(
                "provider.overloaded",
                "The demo model plays an overloaded provider.",
                is_transient=True,
            )

    def _keep_a_list(self) -> None:
        if self._has("todo|to-do"):
            items = [
                {"text": "Read the message", "done": True},
                {"text": "Do what it says", "done": False},
            ]
            self._call("update_todos", "First I make a list. ", items=items)

    def _read(self) -> None:
        if self._says("read"):
            self._call("list_files", "Let me see which files are here. ")
            if found := re.search(r'"name": "([^"]+)"', self._result_of("list_files")):
                self._call("read_file", "I read the first one. ", name=found.group(1))
        if address := re.search(r"https?://\S+", self._asked):
            self._call("web_fetch", "I fetch that page. ", url=address.group(0))

    def _ask(self) -> None:
        if self._has(r"ask\b|question"):
            question = {
                "question": "How long should the report be?",
                "header": "Length",
                "options": [{"label": "Short (Recommended)"}, {"label": "Long"}],
                "multiSelect": False,
            }
            self._call("AskUserQuestion", "I have a question first. ", questions=[question])

    def _keep_what_is_known(self) -> None:
        if self._says("remember"):
            kept = " ".join(self._asked.split())[:300]
            self._call("remember", "I keep that in mind. ", content=kept)
        if self._says("recall"):
            self._call("recall", "Let me see what I know. ")
        if self._says("document"):
            self._call(
                "write_document",
                "I keep that as a document. ",
                content=PLAN,
                name=self._named_file("txt|md") or "guide.md",
                summary="How things are done here.",
            )
        if lesson := re.search(r"\blesson\s+(.+)", self._asked, re.IGNORECASE):
            text = lesson.group(1).strip()
            self._call("learn_lesson", "That is worth knowing next time. ", text=text)

    def _calculate(self) -> None:
        if self._says("chart|calculate"):
            self._call("run_python", "I calculate that. ", code=CHART)

    def _tell_people(self) -> None:
        if self._says("notify"):
            message = "This is what I wanted to say."
            self._call("notify", "I let you know. ", title="News", message=message)
        if self._says("complain"):
            self._call(
                "report_issue",
                "I report that. ",
                title="The demo complains",
                message="I was told to complain, so I do.",
                severity="low",
            )

    def _start_work(self) -> None:
        if self._says("delegate"):
            saying = "I save that as a task. "
            self._call("create_task", saying, name="Delegated", instructions="Think.")
            if found := re.search(r'"task_id": (\d+)', self._result_of("create_task")):
                self._call("run_task", "And I start it. ", task_id=int(found.group(1)))

    def _use_apps(self) -> None:
        for name, given in re.findall(r"\buse (\w+__\w+)(?:\s+(\{.*?\}))?", self._asked):
            self._call(name, f"I use {name}. ", **_arguments(given))

    def _ask_for_approval(self) -> None:
        if self._has("approv"):
            self._call(
                "pretend_send",
                "Next I would send a message; that needs your approval. ",
                to="kim@example.com",
                text="The report is ready.",
            )

    def _write_a_file(self) -> None:
        if self._has(r"file|report|write"):
            name = self._named_file("csv|txt|md|json") or "report.csv"
            content = PLAN if name.endswith(".md") else REPORT
            self._call("write_file", "Now I write the file. ", name=name, content=content)

    def _give_the_result(self) -> None:
        if schema := self._available.get("submit_result"):
            self._call("submit_result", "This is the result. ", **_sample(schema))

    def _named_file(self, endings: str) -> str:
        named = re.search(rf"\b[\w-]+\.(?:{endings})\b", self._asked)
        return named.group(0) if named else ""


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
    for one in returned:
        said = shorten(_plain(one.content), 120, placeholder="…")
        lines.append(f"- {SAID.get(one.name, one.name)}: {said}")
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
