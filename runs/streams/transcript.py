"""What a page shows of a run: its events folded into blocks, and one event as a fragment.

The page draws the blocks up to some event; its stream brings the fragments of those behind it. Both
use the same templates and the same element ids, so a reload at any moment shows the same.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db.models import Q, QuerySet

from config.compiled import Hole, compiled
from runs.events import log
from runs.events.log import LoggedEvent
from runs.gates import cards
from runs.gates.cards import GateCard
from runs.models import Run, RunFile, Step, StepKind, StepStatus
from teammates import tools
from teammates.models import PermissionMode
from teammates.providers.base import Thinking, Turn
from teammates.templatetags.muster import seconds
from teammates.tools.python import program_of
from teammates.types import JSON
from threads.downloads import IMAGES
from threads.models import File


def element_id(run_id: int, kind: str, key: Any) -> str:
    return f"run-{run_id}-{kind}-{re.sub(r'[^A-Za-z0-9_-]', '_', str(key))}"


@dataclass
class ModelOutput:
    """One model call: its thoughts and its text, Markdown once it is complete."""

    id: str
    thinking: str = ""
    text: str = ""
    is_complete: bool = False
    sources: Sequence[JSON] = ()  # passages of documents that the text cites
    template: str = "transcript/_model_output.html"


@dataclass
class CallBlock:
    """One tool call."""

    id: str
    title: str
    say: str
    arguments: Any
    state: str = "running"  # running, done, failed, denied
    result: Any = None
    code: str = ""  # the program that it runs, if it runs one
    output: str = ""  # what it has printed so far
    template: str = "transcript/_call.html"


@dataclass
class WrittenFile:
    id: str
    uid: str
    name: str
    size: int
    is_picture: bool = False
    template: str = "transcript/_file.html"


@dataclass
class Note:
    """Something worth a line between the blocks; `more` is shown on demand."""

    id: str
    text: str
    more: str = ""
    template: str = "transcript/_note.html"


CANCELLED = {"decision": "cancelled"}
Block = ModelOutput | CallBlock | GateCard | WrittenFile | Note


@dataclass
class Transcript:
    """The blocks of a run, in order, up to event `last_seq`."""

    run_id: int
    blocks: dict[str, Block] = field(default_factory=dict)
    todos: list[JSON] = field(default_factory=list)
    strip: str = ""  # what goes on, in one line
    last_seq: int = 0

    def complete(self, step: int, turn: Turn) -> None:
        """Fill in what a finished model call said."""
        saying = self.blocks.get(element_id(self.run_id, "step", step))
        if isinstance(saying, ModelOutput):
            saying.thinking = "".join(p.text for p in turn.parts if isinstance(p, Thinking))
            saying.text, saying.is_complete = turn.text, True

    def add(self, event: LoggedEvent) -> None:
        data = event.data
        if event.type == "message.delta":
            saying = self.blocks.get(element_id(self.run_id, "step", data["step"]))
            if not isinstance(saying, ModelOutput):
                return
            if data.get("channel") == "thinking":
                saying.thinking += data["content_delta"]
            else:
                saying.text += data["content_delta"]
        elif event.type == "message.completed":
            saying = self.blocks.get(element_id(self.run_id, "step", data["step"]))
            if isinstance(saying, ModelOutput):
                saying.sources = data.get("sources", ())
        elif event.type == "tool.output":
            call = self.blocks.get(element_id(self.run_id, "call", data["tool_call_id"]))
            if isinstance(call, CallBlock):
                call.output += data["delta"]
        elif gone := gone_block(event):
            self.blocks.pop(gone, None)
        if block := new_block(event):
            self.blocks[block.id] = block
        if (strip := strip_of(event)) is not None:
            self.strip = strip
        if event.type == "todo.updated":
            self.todos = data["items"]
        elif event.type in ("tool.result", "tool.denied"):
            call = self.blocks.get(element_id(self.run_id, "call", data["tool_call_id"]))
            if isinstance(call, CallBlock):
                call.state, call.result = outcome_of(event)
        elif event.is_terminal:
            for request_id in data.get("cancelled_requests", []):
                card = self.blocks.get(element_id(self.run_id, "gate", request_id))
                if isinstance(card, GateCard):
                    self.blocks[card.id] = cards.decided(card, CANCELLED)
        elif event.type == "run.approval_recorded":
            card = self.blocks.get(element_id(self.run_id, "gate", data["request_id"]))
            if isinstance(card, GateCard):
                self.blocks[card.id] = replace(card, agreed=tuple(data["agreed_by"]))
        elif event.type == "run.input_provided":
            card = self.blocks.get(element_id(self.run_id, "gate", data["request_id"]))
            if isinstance(card, GateCard):
                self.blocks[card.id] = cards.decided(card, data)


def new_block(event: LoggedEvent) -> Block | None:
    """The block that begins with an event."""
    data, run_id = event.data, event.run_id
    match event.type:
        case "step.started" if data["kind"] == "model":
            return ModelOutput(element_id(run_id, "step", data["step"]))
        case "tool.call" if not is_question(event):
            title, say = describe(data)
            return CallBlock(
                element_id(run_id, "call", data["tool_call_id"]),
                title,
                say,
                data["arguments"],
                code=program_of(data["tool_name"], data["arguments"]),
            )
        case "run.waiting_for_input":
            return cards.shown_event(run_id, element_id(run_id, "gate", data["request_id"]), data)
        case "file.created":
            return WrittenFile(
                element_id(run_id, "file", data["file_id"]),
                data["file_id"],
                data["name"],
                data["size"],
                is_picture=data["content_type"] in IMAGES,
            )
        case _:
            if remark := remark_of(event):
                return Note(element_id(run_id, "remark", event.seq), *remark)
    return None


def remark_of(event: LoggedEvent) -> tuple[str, ...] | None:
    """What a line says about an event, and perhaps what there is to unfold."""
    data = event.data
    match event.type:
        case "run.llm.retry":
            wait = seconds(data["delay_ms"])
            return (f"{data['message']} Trying again in {wait}.",)
        case "run.attempt.lost" | "run.attempt.released":
            return ("The worker stopped; another one goes on from the last finished step.",)
        case "run.llm.adjusted":
            return (_adjusted(data),)
        case "run.provider_fallback":
            return (f"{data['message']} Going on with {data['to_model']}.",)
        case "run.context_compacted":
            return (
                "Earlier messages were summarised to save space "
                f"(from about {data['before_tokens']} to {data['after_tokens']} tokens).",
                data["summary"],
            )
        case "run.tool_server.failing":
            return (f"The tools of {data['name']} are not there right now. {data['reason']}",)
        case "run.tool_server.changed":
            words = [
                f"{len(data[word])} {said}"
                for word, said in (("added", "new"), ("removed", "gone"), ("changed", "changed"))
                if data[word]
            ]
            return (f"The tools of {data['name']} are not what they were: {', '.join(words)}.",)
        case "run.mode_changed":
            mode = PermissionMode(data["permission_mode"]).label.lower()
            who = f" by {data['by']}" if data.get("by") else ""
            return (f"The mode was changed{who}: {mode}.",)
        case "run.approval_recorded":
            return (f"{data['by']} agreed ({data['agreed']} of {data['needed']}).",)
        case "tool.denied" if data.get("reason") in ("plan_required", "non_interactive"):
            return (f"Not done: {data['message'].partition(':')[0]}.",)
    return None


def _adjusted(data: JSON) -> str:
    if data["error_class"] == "provider.context_too_long":
        words = f"The conversation is too long for {data['model']}. Its beginning is summarised."
        window = data.get("context_window")
        return f"{words} From now on it counts as full at {window} tokens." if window else words
    most = data["max_output_tokens"]
    return f"{data['model']} writes at most {most} tokens at once. It is asked again with that."


def strip_of(event: LoggedEvent) -> str | None:
    """The line about what goes on, behind an event; None leaves it as it was."""
    match event.type:
        case "step.started":
            number = event.data["step"]
            word = "Reading what was found" if event.data["kind"] == "tools" else "Writing"
            return f"{word} · step {number}"
        case "tool.call" if not is_question(event):
            title, say = describe(event.data)
            return say or title
        case "run.waiting_for_input" | "run.attempt.lost" | "run.attempt.released":
            return ""
    return "" if event.is_terminal else None


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


def is_question(event: LoggedEvent) -> bool:
    """A call that is shown as its card."""
    tool = tools.REGISTRY.get(event.data["tool_name"])
    return tool is not None and tool.asks_a_person


def describe(data: JSON) -> tuple[str, str]:
    """The title of a called tool and what the call does, in the words of the time."""
    name = data["tool_name"]
    if "display_name" in data:
        return data["display_name"], data["summary"]
    tool = tools.REGISTRY.get(name)  # events of before had no words of their own
    return (tool.title if tool else name), ""


def with_transcripts(runs: list[Run]) -> list[Run]:
    """Each run with `transcript`, its blocks up to the run's `last_seq`.

    Four queries for all of them: what happened, what finished model calls said (from their
    steps: the log has it in pieces), the pieces of the calls that are still speaking, and the
    files that came with the messages.
    """
    by_id = {run.pk: Transcript(run.pk) for run in runs}
    ends = {run.pk: run.last_seq for run in runs}
    steps = _steps.all(run_ids=list(by_id))
    speaking = {step.run_id: step.first_seq for step in steps if step.status == StepStatus.RUNNING}
    for event in log.read_milestones(ends, speaking):
        by_id[event.run_id].add(event)
    for step in steps:
        if step.response is not None and step.last_seq and step.last_seq <= ends[step.run_id]:
            by_id[step.run_id].complete(step.number, Turn.from_json(step.response))
    attached: dict[int, list[File]] = {}
    for row in _attached.all(run_ids=list(by_id)):
        attached.setdefault(row.run_id, []).append(row.file)
    for run in runs:
        run.attached = attached.get(run.pk, [])  # type: ignore[attr-defined]
        by_id[run.pk].last_seq = run.last_seq
        run.transcript = by_id[run.pk]  # type: ignore[attr-defined]
    return runs


@compiled
def _steps(run_ids: Hole) -> "QuerySet[Step]":
    is_shown = Q(kind=StepKind.MODEL) | Q(status=StepStatus.RUNNING)
    steps = Step.objects.filter(is_shown, run__pk__any=run_ids)
    return steps.exclude(status=StepStatus.STOPPED, response=None).defer("request")


@compiled
def _attached(run_ids: Hole) -> "QuerySet[RunFile]":
    files = RunFile.objects.filter(run__pk__any=run_ids, is_attachment=True)
    return files.select_related("file")
