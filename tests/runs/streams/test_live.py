"""What every open tab is told: how many decisions wait for its person, and which is the newest."""

import asyncio
from typing import Any

import pytest

from config.wakeups import WakeUps
from runs.models import GateKind
from runs.streams.live import LiveBoard, Watcher
from teammates.access import Access
from tests.factories import make_eve, make_gate

pytestmark = pytest.mark.django_db(transaction=True)


async def told_by(board: LiveBoard, until: asyncio.Event) -> None:
    running = asyncio.create_task(board.run())
    try:
        await asyncio.wait_for(until.wait(), 20)
        await asyncio.sleep(0)
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_a_tab_that_closes_while_others_are_told_stops_nothing(alice: Access) -> None:
    board = LiveBoard(WakeUps())
    accesses = [alice, make_eve()]
    watchers: list[Watcher] = []

    async def work() -> None:
        again = asyncio.Event()
        told: list[int] = []

        def tell_and_close_the_others(number: int) -> Any:
            def tell(message: dict[str, Any]) -> None:
                told.append(number)
                if len(told) <= len(watchers):
                    return
                for other in watchers:
                    if other is not watchers[number]:
                        board.close(other)
                if len(told) > len(watchers) + 1:
                    again.set()
                else:
                    board._wake(str(accesses[number].organization.pk))

            return tell

        for number, access in enumerate(accesses):
            watchers.append(Watcher(access, tell_and_close_the_others(number)))
        for watcher in watchers:
            await board.open(watcher)
        for access in accesses:
            board._wake(str(access.organization.pk))
        await told_by(board, again)

    asyncio.run(work())


def test_admins_are_told_of_all_that_waits_and_members_of_their_own(
    alice: Access, bob: Access
) -> None:
    board = LiveBoard(WakeUps())
    make_gate(alice)
    newest = make_gate(bob, kind=GateKind.APPROVAL)
    told: dict[str, dict[str, Any]] = {}

    async def work() -> None:
        for name, access in (("alice", alice), ("bob", bob)):
            await board.open(
                Watcher(access, lambda message, name=name: told.update({name: message}))
            )

    asyncio.run(work())
    assert told["alice"]["needs_you"] == 2
    assert told["bob"]["needs_you"] == 1
    assert told["alice"]["newest"]["id"] == told["bob"]["newest"]["id"] == newest.pk
