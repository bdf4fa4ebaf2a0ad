"""The dialect of the pages: text that grows one node, and fragments that htmx swaps in."""

import json

from django.template.loader import render_to_string
from django.utils import timezone

from runs.events import payloads
from runs.events.log import LoggedEvent
from runs.models import ASKING, RunStatus
from runs.streams import transcript
from teammates.types import JSON

# What a run is right behind an event.
STATUS_BEHIND = {
    "run.started": RunStatus.QUEUED,
    "run.attempt.started": RunStatus.RUNNING,
    "run.attempt.lost": RunStatus.QUEUED,
    "run.attempt.released": RunStatus.QUEUED,
    "run.llm.retry": RunStatus.QUEUED,
    "run.waiting_for_input": RunStatus.WAITING,
    "run.input_provided": RunStatus.QUEUED,
    "run.paused": RunStatus.PAUSED,
    "run.resumed": RunStatus.QUEUED,
    "run.completed": RunStatus.COMPLETED,
    "run.failed": RunStatus.FAILED,
    "run.cancelled": RunStatus.CANCELLED,
    "run.closed": RunStatus.CLOSED,
}


class PageFrames:
    """The dialect of `GET /runs/{id}/stream`."""

    is_over = False

    def __init__(self, teammate: str, timezone: str) -> None:
        """`timezone`: that of the organization, as the rest of the page has it."""
        self._teammate, self._timezone = teammate, timezone

    def begin(self) -> bytes:
        return b"retry: 2000\n\n"

    def keep_alive(self) -> bytes:
        return b": ping\n\n"

    def end(self) -> bytes:
        return b"event: end\ndata: \n\n"  # also where the page knew the terminal event already

    def draws(self, batch: list[LoggedEvent]) -> bool:
        return any(event.type not in ("message.delta", "tool.output") for event in batch)

    def write(self, batch: list[LoggedEvent]) -> bytes:
        name = ("page", self._teammate, self._timezone)
        with timezone.override(self._timezone):
            return b"".join(
                event.frame(name, lambda event=event: self._frames(event))  # type: ignore[misc]
                for event in batch
            )

    def _frames(self, event: LoggedEvent) -> bytes:
        data, run_id = event.data, event.run_id
        if event.type == "message.delta":
            part = "thinking" if data.get("channel") == "thinking" else "text"
            block = transcript.element_id(run_id, "step", data["step"]) + f"-{part}"
            piece = {"block": block, "text": data["content_delta"]}
            return sse("text", json.dumps(piece), event.seq)
        if event.type == "tool.output":
            block = transcript.element_id(run_id, "call", data["tool_call_id"]) + "-output"
            return sse("text", json.dumps({"block": block, "text": data["delta"]}), event.seq)
        html = self._html(event)
        frames = sse("html", html, event.seq) if html else b""
        if words := self._in_words(event):
            frames += sse("say", words, event.seq)
        return frames

    def _html(self, event: LoggedEvent) -> str:
        """The fragments that bring the page from before the event to behind it."""
        data, run_id = event.data, event.run_id
        context: JSON = {"event": event, "run_id": run_id, "data": data, "oob": True}
        pieces: list[str] = []
        if gone := transcript.gone_block(event):
            pieces.append(f'<div id="{gone}" hx-swap-oob="delete"></div>')
        if block := transcript.new_block(event):
            inner = render_to_string(block.template, context | {"block": block})
            pieces.append(f'<div hx-swap-oob="beforeend:#run-{run_id}-body">{inner}</div>')
        if (strip := transcript.strip_of(event)) is not None:
            pieces.append(
                render_to_string("transcript/_status_line.html", context | {"strip": strip})
            )
        if event.type == "message.completed" and not data["content"].endswith(payloads.CUT):
            context["id"] = transcript.element_id(run_id, "step", data["step"])
            pieces.append(render_to_string("transcript/_text.html", context))
        if event.type in ("tool.result", "tool.denied") and not transcript.is_question(event):
            state, result = transcript.outcome_of(event)
            context["id"] = transcript.element_id(run_id, "call", data["tool_call_id"])
            context |= {"state": state, "result": result}
            pieces.append(render_to_string("transcript/_call_result.html", context))
        if event.type == "todo.updated":
            pieces.append(
                render_to_string("transcript/_todos.html", context | {"items": data["items"]})
            )
        if event.type == "run.input_provided":
            context["id"] = transcript.element_id(run_id, "gate", data["request_id"])
            context["block"] = data | {"asks_in_words": data["kind"] in ASKING}
            pieces.append(render_to_string("gates/_decision.html", context))
        if event.type == "run.approval_recorded":
            context["id"] = transcript.element_id(run_id, "gate", data["request_id"])
            context |= {"agreed": data["agreed_by"], "needed": data["needed"]}
            pieces.append(render_to_string("gates/_agreed.html", context))
        for request_id in data.get("cancelled_requests", []):
            context["id"] = transcript.element_id(run_id, "gate", request_id)
            context["block"] = transcript.CANCELLED
            pieces.append(render_to_string("gates/_decision.html", context))
        if status := STATUS_BEHIND.get(event.type):
            context |= {"status": status, "label": status.label, "is_over": event.is_terminal}
            pieces.append(render_to_string("transcript/_status.html", context))
        return "".join(pieces)

    def _in_words(self, event: LoggedEvent) -> str:
        """For screen readers, in a region of its own: streaming text is no live region."""
        match event.type:
            case "step.started" if event.data["kind"] == "model":
                return f"{self._teammate} is writing."
            case "tool.call":
                title, _ = transcript.describe(event.data)
                return f"{self._teammate} used: {title}."
            case "run.waiting_for_input":
                return f"{self._teammate} needs you: {event.data['prompt'][:200]}"
            case "run.completed":
                return "Reply finished."
            case "run.failed":
                return f"The run failed. {event.data['message']}"
        return ""


def sse(kind: str, text: str, seq: int) -> bytes:
    lines = "".join(f"data: {line}\n" for line in (text.splitlines() or [""]))
    return f"id: {seq}\nevent: {kind}\n{lines}\n".encode()
