"""The state machine: what a run may do next, and the only function that changes `Run.status`."""

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from runs.lifecycle.transitions import TRANSITIONS
from runs.models import ACTIVE, BUSY, FINISHED, Run, RunStatus
from teammates.access import Access
from tests.factories import make_run, make_thread


def test_the_database_refuses_two_busy_runs_in_a_thread(alice: Access) -> None:
    thread = make_thread(alice)
    make_run(alice, thread=thread, status=RunStatus.RUNNING)
    second = make_run(alice, thread=thread)
    with pytest.raises(IntegrityError, match="run_one_busy_per_thread"), transaction.atomic():
        Run.objects.filter(pk=second.pk).update(
            status=RunStatus.RUNNING, lease_until=timezone.now()
        )


@pytest.mark.parametrize("start", list(RunStatus))
@pytest.mark.parametrize("to", list(RunStatus))
def test_the_table_of_transitions_is_whole(start: RunStatus, to: RunStatus) -> None:
    assert set(TRANSITIONS) == set(RunStatus)
    assert not (start in FINISHED and to in TRANSITIONS[start])
    assert set(ACTIVE) | set(FINISHED) == set(RunStatus)
    assert set(BUSY) < set(ACTIVE)
