"""What a page that is open is sent of a run."""

import pytest

from runs.events import log, payloads
from runs.models import Run
from runs.streams.frames_page import PageFrames
from runs.streams.transcript import with_transcripts
from teammates.access import Access
from tests.factories import claim, make_run, say

pytestmark = pytest.mark.django_db


def test_a_page_and_its_stream_draw_the_same(alice: Access) -> None:
    """A reload at any event shows what the stream would have brought."""
    run = make_run(alice)
    lease = claim(run)
    new = payloads.NewEvent
    log.append(
        [
            log.Batch(
                run.pk,
                lease.fence,
                [
                    new("step.started", {"kind": "model", "step": 1}),
                    new("message.delta", {"content_delta": "hm", "channel": "thinking", "step": 1}),
                    say("Hello"),
                    say(" world"),
                    new(
                        "tool.call",
                        {"tool_call_id": "c1", "tool_name": "list_files", "arguments": {}},
                    ),
                    new(
                        "tool.result",
                        {"tool_call_id": "c1", "tool_name": "list_files", "result": []},
                    ),
                ],
            )
        ]
    )
    from django.utils import timezone

    from runs.models import Step

    Step.objects.create(
        run=run, number=1, kind="model", attempt=1, first_seq=3, started_at=timezone.now()
    )
    (shown,) = with_transcripts([Run.objects.for_list().get(pk=run.pk)])
    saying, call = shown.transcript.blocks.values()  # type: ignore[attr-defined]
    assert (saying.thinking, saying.text) == ("hm", "Hello world")
    assert (call.state, call.result) == ("done", [])
    live = PageFrames("Demo", "UTC").write(log.read(run.pk, after=2)).decode()
    for piece in (saying.id, call.id, "Hello", "event: html", "event: text"):
        assert piece in live
