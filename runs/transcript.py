"""What a page shows of a run: its events folded into blocks, and one event as a fragment.

The page draws the blocks up to some event; its stream brings the fragments of those behind it. Both
use the same templates and the same element ids, so a reload at any moment shows the same.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from runs.events import LoggedEvent
from teammates import tools
from teammates.providers.base import Thinking, Turn


def element_id(run_id: int, kind: str, key: Any) -> str:
    return f"run-{run_id}-{kind}-{re.sub(r'[^A-Za-z0-9_-]', '_', str(key))}"


@dataclass
class Saying:
    """One model call: its thoughts and its text, Markdown once it is complete."""

    id: str
    thinking: str = ""
    text: str = ""
    is_complete: bool = False
    template: str = "runs/_saying.html"


@dataclass
class Call:
    """One tool call."""

    id: str
    title: str
    say: str
    arguments: Any
    state: str = "running"  # running, done, failed, denied
    result: Any = None
    template: str = "runs/_call.html"


@dataclass
class Card:
    """A gate: open, or decided."""

    id: str
    run_id: int
    request_id: str
    kind: str
    prompt: str
    request: dict[str, Any]
    is_open: bool = True
    decision: str = ""
    by: str = ""
    content: str = ""
    template: str = "runs/_gate.html"


@dataclass
class WrittenFile:
    id: str
    uid: str
    name: str
    size: int
    template: str = "runs/_file.html"


@dataclass
class Notice:
    """Something worth a line between the blocks."""

    id: str
    text: str
    template: str = "runs/_notice.html"


Block = Saying | Call | Card | WrittenFile | Notice


@dataclass
class Transcript:
    """The blocks of a run, in order, up to event `last_seq`."""

    run_id: int
    blocks: dict[str, Block] = field(default_factory=dict)
    todos: list[dict[str, Any]] = field(default_factory=list)
    last_seq: int = 0

    def complete(self, step: int, turn: Turn) -> None:
        """Fill in what a finished model call said."""
        saying = self.blocks.get(element_id(self.run_id, "step", step))
        if isinstance(saying, Saying):
            saying.thinking = "".join(p.text for p in turn.parts if isinstance(p, Thinking))
            saying.text, saying.is_complete = turn.text, True

    def add(self, event: LoggedEvent) -> None:
        data = event.data
        if event.type == "message.delta":
            saying = self.blocks.get(element_id(self.run_id, "step", data["step"]))
            if not isinstance(saying, Saying):
                return
            if data.get("channel") == "thinking":
                saying.thinking += data["content_delta"]
            else:
                saying.text += data["content_delta"]
        elif gone := gone_block(event):
            self.blocks.pop(gone, None)
        if block := new_block(event):
            self.blocks[block.id] = block
        elif event.type == "todo.updated":
            self.todos = data["items"]
        elif event.type in ("tool.result", "tool.denied"):
            call = self.blocks.get(element_id(self.run_id, "call", data["tool_call_id"]))
            if isinstance(call, Call):
                call.state, call.result = outcome_of(event)
        elif event.type == "run.input_provided":
            card = self.blocks.get(element_id(self.run_id, "gate", data["request_id"]))
            if isinstance(card, Card):
                decide(card, data)


def new_block(event: LoggedEvent) -> Block | None:
    """The block that begins with an event."""
    data, run_id = event.data, event.run_id
    match event.type:
        case "step.started" if data["kind"] == "model":
            return Saying(element_id(run_id, "step", data["step"]))
        case "tool.call" if not is_question(event):
            title, say = describe(data["tool_name"], data["arguments"])
            return Call(
                element_id(run_id, "call", data["tool_call_id"]), title, say, data["arguments"]
            )
        case "run.waiting_for_input":
            return Card(
                element_id(run_id, "gate", data["request_id"]),
                run_id, data["request_id"], data["kind"], data["prompt"], data["arguments"],
            )  # fmt: skip
        case "file.created":
            return WrittenFile(
                element_id(run_id, "file", data["file_id"]), data["file_id"], data["name"],
                data["size"],
            )  # fmt: skip
        case "run.llm.retry":
            text = f"{data['message']} Trying again in {data['delay_ms'] / 1000:.0f} s."
            return Notice(element_id(run_id, "notice", event.seq), text)
        case "run.attempt.lost" | "run.attempt.released":
            text = "The worker stopped; another one goes on from the last finished step."
            return Notice(element_id(run_id, "notice", event.seq), text)
    return None


def gone_block(event: LoggedEvent) -> str:
    """The id of the block whose text an event makes void."""
    step = event.data.get("void_step")
    return element_id(event.run_id, "step", step) if step is not None else ""


def outcome_of(event: LoggedEvent) -> tuple[str, Any]:
    if event.type == "tool.denied":
        return "denied", event.data.get("message")
    if "error" in event.data:
        return "failed", event.data["error"].get("message")
    return "done", event.data.get("result")


def decide(card: Card, data: dict[str, Any]) -> None:
    card.is_open = False
    card.decision, card.by, card.content = data["decision"], data.get("by") or "", data["content"]


def is_question(event: LoggedEvent) -> bool:
    """A call that is shown as its card."""
    tool = tools.REGISTRY.get(event.data["tool_name"])
    return tool is not None and tool.run is None


def describe(tool_name: str, arguments: Any) -> tuple[str, str]:
    """The title of a tool and what this call does, in the registry's words."""
    tool = tools.REGISTRY.get(tool_name)
    if tool is None:
        return tool_name, ""
    try:
        return tool.title, tool.say(arguments)
    except (KeyError, TypeError):  # arguments too large for the event were cut
        return tool.title, json.dumps(arguments)[:200]
