"""Flags on runs: archived, viewed."""

from dataclasses import replace

import pytest

from runs.lifecycle import flags
from runs.models import Run, RunStatus
from teammates.access import Access
from teammates.errors import Forbidden, NotFound
from teammates.models import Role
from tests.factories import make_run, make_thread

pytestmark = pytest.mark.django_db


def test_a_run_is_archived_once_and_comes_back(alice: Access) -> None:
    run = make_run(alice, status=RunStatus.COMPLETED)
    at = flags.set_archived(alice, run, archived=True).archived_at
    assert at is not None
    assert flags.set_archived(alice, run, archived=True).archived_at == at
    assert flags.set_archived(alice, run, archived=False).archived_at is None


def test_who_may_not_change_a_run_archives_nothing(alice: Access, bob: Access, eve: Access) -> None:
    run = make_run(alice, status=RunStatus.COMPLETED)
    with pytest.raises(Forbidden):
        flags.set_archived(replace(alice, role=Role.VIEWER), run, archived=True)
    for stranger in (bob, eve):
        with pytest.raises(NotFound):
            flags.set_archived(stranger, run, archived=True)
    assert Run.objects.get().archived_at is None


def test_a_look_counts_of_whoever_started_the_run_alone(alice: Access, bob: Access) -> None:
    run = make_run(bob, status=RunStatus.COMPLETED)
    assert flags.mark_viewed(alice, run).last_viewed_at is None
    assert flags.mark_viewed(bob, run).last_viewed_at is not None


def test_an_open_thread_marks_what_has_ended_in_it(alice: Access, bob: Access) -> None:
    thread = make_thread(bob)
    over = make_run(bob, thread=thread, status=RunStatus.COMPLETED)
    open_ = make_run(bob, thread=thread)
    flags.mark_thread_viewed(alice, thread)
    assert Run.objects.filter(last_viewed_at=None).count() == 2
    flags.mark_thread_viewed(bob, thread)
    assert Run.objects.get(pk=over.pk).last_viewed_at is not None
    assert Run.objects.get(pk=open_.pk).last_viewed_at is None
