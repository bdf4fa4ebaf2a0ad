"""Transactions that want the same rows: they take them in one order, and what the database undoes
is tried again under its fence."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

from runs.events.log import StaleLease
from runs.events.payloads import NewEvent
from runs.execution.event_buffer import MOST_TRIES, EventWriter
from runs.lifecycle import endings, transitions
from runs.lifecycle.endings import Outcome
from runs.lifecycle.transitions import Lease
from runs.models import Event, Notice, NoticeKind, Run, RunStatus
from runs.usage.days import add_to_days
from teammates.access import Access
from tests.conftest import wait_for
from tests.factories import claim, make_run

pytestmark = pytest.mark.django_db(transaction=True)


def in_thread(work: Callable[[], Any], failures: list[BaseException]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def test_a_day_and_the_key_of_another_run_are_never_waited_for_in_a_ring(alice: Access) -> None:
    """One transaction refers to a run and books on the day; the other ends that run, and books."""
    other, ending = make_run(alice, status=RunStatus.COMPLETED), make_run(alice)
    lease = claim(ending)
    failures: list[BaseException] = []
    is_booked = threading.Event()

    def refers_and_books() -> None:
        with transaction.atomic():
            Notice.objects.create(
                run=ending, user=alice.user, kind=NoticeKind.MESSAGE, title="t", text="t"
            )
            add_to_days([other.pk])
            is_booked.set()
            wait_for(somebody_waits_for_a_lock, seconds=20)

    def ends() -> None:
        assert is_booked.wait(20)
        endings.finish_run(lease, [], Outcome(RunStatus.COMPLETED, text="Done."))

    for thread in [in_thread(refers_and_books, failures), in_thread(ends, failures)]:
        thread.join()
    assert failures == []
    assert Run.objects.get(pk=ending.pk).status == RunStatus.COMPLETED


def trouble(code: str) -> None:
    """An error of the database, as it is raised in the middle of a transaction."""
    with connection.cursor() as cursor:
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{code}'; END $$")


def commit(lease: Lease, verb: Callable[..., Any]) -> Any:
    async def work() -> Any:
        buffer = EventWriter().open(lease)
        buffer._pending.append(NewEvent("todo.updated", {"items": []}))
        return await buffer.commit(verb)

    return asyncio.run(work())


@pytest.mark.parametrize("code", ["40P01", "40001"])
def test_what_the_database_undid_is_done_again_with_all_that_was_pending(
    alice: Access, code: str
) -> None:
    run = make_run(alice)
    lease = claim(run)
    tries: list[int] = []

    def verb(lease: Lease, pending: list[NewEvent]) -> str:
        with transitions.holding(lease, pending):
            tries.append(len(pending))
            if len(tries) < MOST_TRIES:
                trouble(code)
        return "done"

    assert commit(lease, verb) == "done"
    assert tries == [1] * MOST_TRIES
    assert Event.objects.filter(run=run, type="todo.updated").count() == 1
    assert Run.objects.get(pk=run.pk).status == RunStatus.RUNNING


def test_a_database_that_is_gone_ends_the_attempt_and_not_the_run(alice: Access) -> None:
    run = make_run(alice)
    lease = claim(run)

    def verb(lease: Lease, pending: list[NewEvent]) -> None:
        with transitions.holding(lease, pending), connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(StaleLease):
        commit(lease, verb)
    connection.close()
    assert Run.objects.get(pk=run.pk).status == RunStatus.RUNNING  # until its lease runs out
    assert not Event.objects.filter(run=run, type="todo.updated").exists()


def test_nothing_is_tried_again_for_a_run_that_another_worker_has(alice: Access) -> None:
    run = make_run(alice)
    lease = claim(run)

    def verb(lease: Lease, pending: list[NewEvent]) -> None:
        with transitions.holding(lease, pending):
            trouble("40P01")

    Run.objects.filter(pk=run.pk).update(fence=lease.fence + 1)
    with pytest.raises(StaleLease):
        commit(lease, verb)
