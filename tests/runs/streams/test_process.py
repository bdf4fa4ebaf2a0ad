"""The readers of this process."""

import asyncio
from typing import Any

import pytest

from runs.streams import process


async def fail() -> None:
    raise OSError("the connection is gone")


async def last() -> None:
    await asyncio.Event().wait()


def test_a_reader_that_dies_is_told_with_its_reason(caplog: Any) -> None:
    told: list[BaseException] = []

    async def work() -> None:
        task = process.watched(fail(), "hub", told.append)
        await asyncio.wait([task])
        await asyncio.sleep(0)

    asyncio.run(work())
    assert [str(error) for error in told] == ["the connection is gone"]
    assert "hub stopped" in caplog.text


def test_one_that_is_stopped_is_no_failure() -> None:
    told: list[BaseException] = []

    async def work() -> None:
        task = process.watched(last(), "hub", told.append)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)

    asyncio.run(work())
    assert told == []


@pytest.mark.django_db(transaction=True)
def test_whoever_asks_gets_the_readers_that_run() -> None:
    async def work() -> None:
        running = process.start_readers()
        assert process.readers() is running
        await running.stop()
        fresh = process.readers()
        assert fresh is not running
        await fresh.stop()

    asyncio.run(work())
