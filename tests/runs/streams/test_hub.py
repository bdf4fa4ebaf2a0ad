"""`follow(run, after)`: replay from the table, then live, then the end. One path for all
readers.
"""

import asyncio
import json
from typing import Any

import pytest

from config.wakeups import WakeUps
from runs.events.channels import EVENTS_CHANNEL
from runs.streams.hub import Hub


def told(run_id: int, *seqs: int) -> str:
    """What PostgreSQL tells of new events."""
    events = [[run_id, seq, "message.delta", {}, "2026-01-02T03:04:05+00:00"] for seq in seqs]
    return f"{run_id}:{seqs[-1]}\n{json.dumps(events)}"


def test_events_that_a_wake_up_carries_are_not_read_again() -> None:
    wakeups = WakeUps()
    hub = Hub(wakeups)
    subscription = hub.open(7)
    hub.start(subscription, 1)
    hub._news.clear()
    wakeups._tell(EVENTS_CHANNEL, told(7, 2, 3))
    wakeups._tell(EVENTS_CHANNEL, told(7, 2, 3))  # heard twice
    wakeups._tell(EVENTS_CHANNEL, told(8, 1))  # nobody reads that one
    assert [event.seq for event in subscription.ring] == [2, 3]
    assert not hub._news


@pytest.mark.parametrize("payload", [told(7, 4), "7:4", told(7, 3, 4)])
def test_behind_a_gap_and_where_they_are_not_carried_events_are_read(payload: str) -> None:
    wakeups = WakeUps()
    hub = Hub(wakeups)
    subscription = hub.open(7)
    wakeups._tell(EVENTS_CHANNEL, told(7, 1))  # before the reader knows where it stands
    hub._news.clear()
    hub.start(subscription, 1)
    hub._news.clear()
    wakeups._tell(EVENTS_CHANNEL, payload)
    assert not subscription.ring
    assert hub._news == {7}


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
