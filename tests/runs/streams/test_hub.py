"""`follow(run, after)`: replay from the table, then live, then the end. One path for all
readers.
"""

import asyncio
from typing import Any

import pytest

from config.wakeups import WakeUps
from runs.streams.hub import Hub


async def test_what_a_lost_wake_up_hid_is_found_also_where_there_is_always_news(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.POLL_SECONDS = 0.05
    hub = Hub(WakeUps())
    hub.open(7)
    looked_at_7 = asyncio.Event()

    async def fetch(run_ids: set[int]) -> None:
        hub._any_news.set()  # somebody else's run has news all the time
        if 7 in run_ids:
            looked_at_7.set()
        await asyncio.sleep(0)

    monkeypatch.setattr(hub, "_fetch", fetch)
    running = asyncio.create_task(hub.run())
    hub._any_news.set()
    try:
        await asyncio.wait_for(looked_at_7.wait(), 20)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
