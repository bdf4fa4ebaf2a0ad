"""One ordered buffer of events per run, and the group commit of all of a worker's runs."""

import asyncio

import pytest

from runs.events.log import UnstorableEvent
from runs.execution.event_buffer import EventWriter
from runs.lifecycle import endings
from runs.lifecycle.endings import Outcome
from runs.models import Run, RunStatus
from teammates.access import Access
from tests.factories import claim, make_run

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_event_that_cannot_be_stored_fails_its_run_and_is_not_paid_for_again(
    alice: Access,
) -> None:
    run = make_run(alice)
    lease = claim(run)

    async def work() -> None:
        writer = EventWriter()
        buffer = writer.open(lease)
        buffer.emit("x", {"number": 10**5000})
        await writer.flush()
        with pytest.raises(UnstorableEvent):
            buffer.raise_if_stale()
        failed = Outcome(RunStatus.FAILED, error_class="internal.error", error_message="It broke.")
        await buffer.commit(endings.finish_run, failed)

    asyncio.run(work())
    assert Run.objects.get(pk=run.pk).status == RunStatus.FAILED
