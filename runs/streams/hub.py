"""`follow(run, after)`: replay from the table, then live, then the end. One path for all readers.

One hub per process: one subscription per run whatever the number of its readers, at most one query
per wake-up, frames encoded once per dialect and shared. A wake-up that is lost costs latency, never
an event, because a slow poll runs under it all.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import groupby, takewhile
from operator import attrgetter

from django.conf import settings

from config.database import in_db
from config.wakeups import WakeUps
from runs.events import channels, log
from runs.events.log import LoggedEvent, News
from runs.models import Run

logger = logging.getLogger("muster.streaming")
RING = 2_000  # newest events kept per followed run
PAGE = 500  # events per query of a replay


class Subscription:
    """The newest events of one run, and the readers that wait for the next."""

    def __init__(self, run_id: int) -> None:
        self.run_id = run_id
        self.last_seq = -1  # -1: nothing read yet; the ring is filled from `start`
        self.ring: deque[LoggedEvent] = deque(maxlen=RING)
        self.readers = 0
        self._grew = asyncio.Event()

    @property
    def is_over(self) -> bool:
        return bool(self.ring) and self.ring[-1].is_terminal

    def add(self, new: list[LoggedEvent]) -> None:
        self.ring.extend(new)
        self.last_seq = new[-1].seq
        self.stir()

    def continue_with(self, new: list[LoggedEvent]) -> bool:
        """Add what follows the last event; False if there is a gap, or nothing read yet."""
        if self.last_seq < 0 or new[0].seq != self.last_seq + 1:
            return False
        self.add(new)
        return True

    def stir(self) -> None:
        grew, self._grew = self._grew, asyncio.Event()
        grew.set()

    async def wait(self, after: int, *, seconds: float) -> None:
        """Until there is an event behind `after`, or `seconds` passed."""
        grew = self._grew
        if self.last_seq > after:
            return
        try:
            async with asyncio.timeout(seconds):
                await grew.wait()
        except TimeoutError:
            pass

    def behind(self, after: int) -> list[LoggedEvent] | None:
        """The events behind `after`, or None if the ring does not reach back that far."""
        if self.last_seq <= after:
            return []
        if not self.ring or self.ring[0].seq > after + 1:
            return None
        newest_first = takewhile(lambda event: event.seq > after, reversed(self.ring))
        return list(newest_first)[::-1]


class Hub:
    """All subscriptions of this process."""

    def __init__(self, wakeups: WakeUps) -> None:
        self._subscriptions: dict[int, Subscription] = {}
        self._news: set[int] = set()
        self._any_news = asyncio.Event()
        self.queries = 0  # counted for the test of "one query per wake-up"
        wakeups.subscribe(channels.EVENTS_CHANNEL, self._wake)

    async def run(self) -> None:
        """Fetch what is new for followed runs, one query for all of them, until cancelled."""
        next_poll = time.monotonic() + settings.POLL_SECONDS
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(next_poll - time.monotonic(), 0)):
                    await self._any_news.wait()
            if time.monotonic() >= next_poll:  # also where there is always news
                self._news.update(self._subscriptions)  # a wake-up may have been lost
                next_poll = time.monotonic() + settings.POLL_SECONDS
            self._any_news.clear()
            news, self._news = self._news, set()
            await self._fetch(news)

    def _wake(self, payload: str) -> None:
        if not payload:  # the listener was away: look at everything
            self._news.update(self._subscriptions)
        elif self._subscriptions:
            self._take(News.of(payload))
        if self._news:
            self._any_news.set()

    def _take(self, news: News) -> None:
        """Add the events that the wake-up carries; what is missing then is to be fetched."""
        behind = {
            run_id
            for run_id, seq in news.last_seqs.items()
            if (subscription := self._subscriptions.get(run_id)) and subscription.last_seq < seq
        }
        for run_id, events in groupby(news.events() if behind else [], key=attrgetter("run_id")):
            if run_id in behind and self._subscriptions[run_id].continue_with(list(events)):
                behind.remove(run_id)
        self._news |= behind

    async def _fetch(self, run_ids: set[int]) -> None:
        wanted = {
            run_id: subscription.last_seq
            for run_id in run_ids
            if (subscription := self._subscriptions.get(run_id)) and subscription.last_seq >= 0
        }
        if not wanted:
            return
        try:
            self.queries += 1
            rows = await in_db(log.read_new, wanted)
        except Exception:
            logger.exception("New events could not be read; trying again")
            await asyncio.sleep(0.5)
            self._news.update(run_ids)
            self._any_news.set()
            return
        by_run: dict[int, list[LoggedEvent]] = {}
        for row in rows:
            by_run.setdefault(row.run_id, []).append(row)
        for run_id, new in by_run.items():
            subscription = self._subscriptions.get(run_id)
            fresh = [e for e in new if subscription and e.seq > subscription.last_seq]
            if subscription and fresh:
                subscription.add(fresh)
            if len(new) >= PAGE:
                self._news.add(run_id)
                self._any_news.set()

    def open(self, run_id: int) -> Subscription:
        subscription = self._subscriptions.setdefault(run_id, Subscription(run_id))
        subscription.readers += 1
        return subscription

    def start(self, subscription: Subscription, seq: int) -> None:
        """A reader has replayed up to `seq`: live begins there, unless it began already."""
        if subscription.last_seq < 0:
            subscription.last_seq = seq
            # What was written while it replayed may have been notified already.
            self._news.add(subscription.run_id)
            self._any_news.set()

    def close(self, subscription: Subscription) -> None:
        subscription.readers -= 1
        if subscription.readers == 0:
            self._subscriptions.pop(subscription.run_id, None)


async def follow(
    hub: Hub, run_id: int, *, after: int = 0, live: bool = True, idle: float = 15.0
) -> AsyncIterator[list[LoggedEvent]]:
    """Events of a run behind number `after`, in order and without a gap, in lists.

    Ends behind the terminal event, or, with `live` False, when all that is stored was given. An
    empty list says that nothing happened for `idle` seconds.
    """
    subscription = hub.open(run_id)
    try:
        position = after
        quiet_since = time.monotonic()
        while True:
            is_followed = live and subscription.last_seq >= 0
            batch = subscription.behind(position) if is_followed else None
            if batch is None:
                batch = await in_db(log.read, run_id, after=position, limit=PAGE)
                if not batch:
                    is_over, last_seq = await in_db(_end, run_id)
                    if is_over and last_seq <= position:
                        return
                    hub.start(subscription, min(position, last_seq))
                elif len(batch) < PAGE:
                    hub.start(subscription, batch[-1].seq)
            if batch:
                position = batch[-1].seq
                quiet_since = time.monotonic()
                yield batch
                if batch[-1].is_terminal:
                    return
                continue
            if not live or subscription.is_over:
                return
            left = idle - (time.monotonic() - quiet_since)
            if left <= 0:
                quiet_since = time.monotonic()
                yield []
                continue
            await subscription.wait(position, seconds=left)
    finally:
        hub.close(subscription)


def _end(run_id: int) -> tuple[bool, int]:
    """Whether the run is over, and its last number: a reader may begin behind the end."""
    run = Run.objects.only("status", "last_seq").get(pk=run_id)
    return run.is_finished, run.last_seq
