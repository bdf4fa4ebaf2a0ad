"""v1's frames: three lines an event (contract v1 3.1), the same bytes live and on resume."""

import json
from typing import Any

from runs.events.log import LoggedEvent
from teammates.types import JSON


def timestamp(value: Any) -> str:
    """UTC with milliseconds, ending in Z."""
    return str(value.strftime("%Y-%m-%dT%H:%M:%S.")) + f"{value.microsecond // 1000:03d}Z"


def event_object(event: LoggedEvent, run_uid: str) -> JSON:
    at = timestamp(event.created_at)
    shown: JSON = {
        "seq": event.seq,
        "type": "run.cancelled" if event.type == "run.closed" else event.type,
        "data": event.data,
        "created_at": at,
        "event_id": f"{run_uid}:{event.seq}",
        "run_id": run_uid,
        "ts": at,
    }
    for key in ("tool_name", "error_class", "content_delta"):
        if key in event.data:
            shown[key] = event.data[key]
    return shown


class V1Frames:
    """The dialect of `GET /v1/runs/{id}/events`."""

    is_over = False

    def __init__(self, run_uid: str) -> None:
        self._run_uid = run_uid

    def begin(self) -> bytes:
        return b": ping\n\n"

    def keep_alive(self) -> bytes:
        return b": ping\n\n"

    def draws(self, batch: list[LoggedEvent]) -> bool:
        return False

    def write(self, batch: list[LoggedEvent]) -> bytes:
        return b"".join(event.frame("v1", lambda e=event: self._frame(e)) for event in batch)  # type: ignore[misc]

    def _frame(self, event: LoggedEvent) -> bytes:
        shown = event_object(event, self._run_uid)
        # ASCII: common clients also split lines at U+2028 and U+0085.
        text = json.dumps(shown, separators=(",", ":"))
        return f"id: {event.seq}\nevent: {shown['type']}\ndata: {text}\n\n".encode()

    def end(self) -> bytes:
        return b""
