"""How many pieces of code run at once, and for whom."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from teammates.sandbox import places
from teammates.sandbox.base import SandboxBroke


def at_once(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(places, "AT_ONCE", number)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(30):
            await work()

    asyncio.run(within())


def test_one_organization_leaves_a_place_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(monkeypatch, 2)
    monkeypatch.setattr(places, "WAIT_SECONDS", 0.1)

    async def work() -> None:
        async with places.place("one"):
            with pytest.raises(SandboxBroke, match="Too much code"):
                async with places.place("one"):
                    raise AssertionError
            async with places.place("two"):
                pass
        async with places.place("one"):
            pass

    run(work)


def test_whoever_waits_gets_a_place_when_one_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(monkeypatch, 3)
    most = now = 0

    async def one(number: int) -> None:
        nonlocal most, now
        async with places.place(str(number % 2)):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.01)
            now -= 1

    async def work() -> None:
        await asyncio.gather(*map(one, range(20)))

    run(work)
    assert (most, now) == (3, 0)


def test_whoever_gives_up_waiting_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(monkeypatch, 2)

    async def hold() -> None:
        async with places.place("two"):
            await asyncio.sleep(60)

    async def work() -> None:
        async with places.place("one"), places.place("three"):
            waiting = asyncio.ensure_future(hold())
            await asyncio.sleep(0.05)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with places.place("two"), places.place("four"):
            pass

    run(work)
