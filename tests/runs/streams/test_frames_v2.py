"""The dialect of v2: frames that open and close blocks."""

import json
from typing import Any

import pytest

from runs.events.log import LoggedEvent
from runs.streams.frames_v2 import StreamState, V2Frames, translate
from teammates.access import Access
from tests.factories import claim, make_run

pytestmark = pytest.mark.django_db


def event(seq: int, type: str, **data: Any) -> LoggedEvent:
    return LoggedEvent(1, seq, type, data, None)  # type: ignore[arg-type]


def kinds(written: bytes) -> list[str]:
    return [
        json.loads(line[6:])["type"]
        for line in written.decode("ascii").splitlines()
        if line.startswith("data: {")
    ]


def test_frames_open_and_close_blocks_and_are_ascii() -> None:
    state, written = StreamState(), b""
    for one in (
        event(1, "step.started", kind="model", step=1),
        event(2, "message.delta", content_delta="hm", channel="thinking", step=1),
        event(3, "message.delta", content_delta="Grüße\u2028", content="x", step=1),
        event(4, "tool.call.delta", tool_call_id="c", tool_name="t", arguments_delta="{}"),
        event(5, "step.completed", kind="model", step=1),
        event(6, "tool.result", tool_call_id="c", tool_name="t", result={"ok": True}),
    ):
        frames, state = translate(state, one)
        written += frames
    assert kinds(written) == [
        "message_start",
        "reasoning-start",
        "reasoning-delta",
        "reasoning-end",
        "text-start",
        "text-delta",
        "text-end",
        "tool-call-start",
        "tool-call-delta",
        "tool-call-end",
        "message-end",
        "tool-result-start",
        "tool-result-end",
    ]
    assert state == StreamState()


def test_what_a_lost_attempt_said_is_left_out_of_a_replay(alice: Access) -> None:
    from runs.events import log, payloads

    run = make_run(alice)
    lease = claim(run)
    log.append(
        [
            log.Batch(
                run.pk,
                lease.fence,
                [
                    payloads.NewEvent("step.started", {"kind": "model", "step": 1}),
                    payloads.NewEvent(
                        "message.delta", {"content_delta": "void", "content": "void", "step": 1}
                    ),
                    payloads.NewEvent("run.attempt.lost", {"void_from_seq": 3, "void_to_seq": 4}),
                ],
            )
        ]
    )
    run.refresh_from_db()
    written = V2Frames(run, is_join=True).write(log.read(run.pk, after=0))
    assert b"void" not in written
