"""How many statements the way of a request, a run and a step takes, whatever there is already.

Counted are those that are sent, without BEGIN, COMMIT and savepoints.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db.backends.utils import CursorWrapper

from config.database import in_db
from runs.execution import loop
from runs.execution.attempt import Attempt
from runs.execution.event_buffer import EventWriter
from runs.lifecycle import leases
from runs.models import Run, RunStatus, Step, StepKind, ToolCall
from teammates.access import Access
from teammates.access_cache import AccessCache
from teammates.people import api_keys
from tests.api import call
from tests.factories import make_key, make_run, make_thread

pytestmark = pytest.mark.django_db(transaction=True)
Counting = Any


class Listening:
    is_listening = True

    def subscribe(self, *_: Any) -> None:
        pass


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """A context manager: the statements that any thread sends in it."""
    sent: list[str] = []
    original = CursorWrapper._execute  # type: ignore[attr-defined]

    def execute(cursor: Any, sql: Any, *rest: Any) -> Any:
        if not str(sql).startswith(("SAVEPOINT", "RELEASE", "ROLLBACK")):
            sent.append(str(sql))
        return original(cursor, sql, *rest)

    monkeypatch.setattr(CursorWrapper, "_execute", execute)

    @contextmanager
    def count() -> Iterator[list[str]]:
        sent.clear()
        yield sent

    return count


@pytest.fixture
def key(alice: Access, monkeypatch: pytest.MonkeyPatch) -> str:
    """A key whose sign-in is kept, as where a server runs."""
    cache = AccessCache()
    cache.follow(Listening())  # type: ignore[arg-type]
    monkeypatch.setattr(api_keys, "access_cache", cache)
    key = make_key(alice)
    for _ in range(2):  # the first use of a key is noted
        api_keys.access_of_bearer(key)
    return key


def fill(access: Access) -> None:
    """More of everything: runs, threads, teammates."""
    thread = make_thread(access)
    for number in range(5):
        make_run(access, thread=thread, message=f"Number {number}", status=RunStatus.COMPLETED)


def work() -> None:
    """Claim a run and execute it to its end, as a worker does."""

    async def execute() -> None:
        writer = EventWriter()
        writing = asyncio.create_task(writer.run())
        (lease,) = await in_db(leases.claim_runs, worker="w", limit=1)
        await loop.execute(Attempt(lease, writer.open(lease)))
        writing.cancel()

    asyncio.run(execute())


def test_a_point_read(alice: Access, key: str, counting: Counting) -> None:
    thread = make_thread(alice)
    with counting() as sent:
        assert call(key, "GET", f"/v1/threads/{thread.uid}").status_code == 200
    assert len(sent) <= 1, sent


def test_a_run_in_a_thread(alice: Access, key: str, counting: Counting) -> None:
    thread = make_thread(alice)
    path = f"/v1/threads/{thread.uid}"
    for _ in range(2):
        call(key, "POST", f"{path}/messages", {"content": "Hello"})
        with counting() as sent:
            assert call(key, "POST", f"{path}/runs").status_code == 201
        assert len(sent) <= 8, sent
        fill(alice)


def test_a_run_of_its_own(alice: Access, key: str, counting: Counting) -> None:
    for _ in range(2):
        with counting() as sent:
            made = call(key, "POST", "/api/v2/runs", {"message": "Hello", "stream": False})
            assert made.status_code == 201
        assert len(sent) <= 10, sent
        fill(alice)


def test_a_run_of_one_step_from_its_claim_to_its_end(alice: Access, counting: Counting) -> None:
    for _ in range(2):
        thread = make_thread(alice)
        for number in range(3):  # earlier turns
            make_run(alice, thread=thread, message=f"{number}", status=RunStatus.COMPLETED)
        run = make_run(alice, thread=thread, message="slow 3 0ms")
        with counting() as sent:
            work()
        assert len(sent) <= 14, sent
        assert Run.objects.get(pk=run.pk).status == RunStatus.COMPLETED
        fill(alice)


def test_each_further_step_and_tool_call(alice: Access, counting: Counting) -> None:
    def count(message: str) -> tuple[int, int, int]:
        run = make_run(alice, message=message)
        with counting() as sent:
            work()
        deltas = sum("made.ids" not in sql and "WITH want" in sql for sql in sent)
        models = Step.objects.filter(run=run, kind=StepKind.MODEL).count()
        return len(sent) - deltas, models, ToolCall.objects.filter(run=run).count()

    plain, _, _ = count("slow 3 0ms")
    longer, models, calls = count("todo read please")
    assert (models, calls) == (3, 2)
    # Each further model step has a tick with its first word besides.
    assert longer - plain <= (models - 1) * (5 - 1) + calls * 5
