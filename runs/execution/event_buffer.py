"""One ordered buffer of events per run, and the group commit of all of a worker's runs.

Deltas are gathered for `GATHER_SECONDS`, neighbours of a kind into one event; every other event,
and the first delta of a step, goes at once. One transaction per tick carries them all. Whatever
else is written for a run goes through `EventBuffer.commit`, which takes its pending events along.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from django.conf import settings
from django.db import OperationalError

from config.database import in_db, left_nothing
from runs.events import log
from runs.events.log import Batch, StaleLease, UnstorableEvent
from runs.events.payloads import NewEvent
from runs.lifecycle.transitions import Lease
from teammates.types import JSON

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger("muster.recording")
MOST_TRIES = 5  # of a transaction that the database undoes
TRY_AGAIN_SECONDS = 0.05
LARGEST_DELTA = 4_000  # characters in one event, of up to six bytes, perhaps under two keys


class EventBuffer:
    """The buffer of one attempt. Used by the attempt's task alone."""

    def __init__(self, writer: "EventWriter", lease: Lease) -> None:
        self.lease = lease
        self.lock = asyncio.Lock()  # held while this run's events are on their way
        self.is_stale = False
        self.has_lost_an_event = False
        self._writer = writer
        self._pending: list[NewEvent] = []

    def delta(self, type: str, data: JSON, *texts: str, urgent: bool = False) -> None:
        """Add a piece of text; `texts` are the keys of `data` that grow when pieces are joined."""
        last = self._pending[-1] if self._pending else None
        if (
            last is not None
            and last.type == type
            and last.data.keys() == data.keys()
            and all(last.data.get(k) == v for k, v in data.items() if k not in texts)
            and len(last.data[texts[0]]) + len(data[texts[0]]) <= LARGEST_DELTA
        ):
            for key in texts:
                last.data[key] += data[key]
        else:
            text = data[texts[0]]
            for start in range(0, max(len(text), 1), LARGEST_DELTA):
                piece = dict.fromkeys(texts, text[start : start + LARGEST_DELTA])
                self._pending.append(NewEvent(type, data | piece))
        self._writer.wake(self, urgent=urgent)

    def emit(self, type: str, data: JSON) -> None:
        """Add an event that goes at once."""
        self._pending.append(NewEvent(type, data))
        self._writer.wake(self, urgent=True)

    async def commit(
        self,
        verb: Callable[Concatenate[Lease, list[NewEvent], P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a verb's transaction with everything that is pending for this run in front.

        Raises `StaleLease`; then nothing was written.
        """
        async with self.lock:
            # Events that could not be written are gone: nothing may be written behind them.
            self.raise_if_stale()
            pending = self.take()
            work = partial(verb, self.lease, pending, *args, **kwargs)
            writing = asyncio.ensure_future(in_db(_tried_again, work))
            try:
                return await asyncio.shield(writing)
            except asyncio.CancelledError:
                # The transaction goes on in its thread; the next must not overtake it.
                await asyncio.wait([writing])
                writing.exception()
                raise
            except OperationalError as error:
                # Whether it was written is not known: the run goes on from its last step, with
                # another attempt, once the lease has run out.
                logger.warning("Run %s lost the database: %s", self.lease.run_id, error)
                self.is_stale = True
                raise StaleLease from error

    def take(self) -> list[NewEvent]:
        pending, self._pending = self._pending, []
        return pending

    def raise_if_stale(self) -> None:
        """Raises `StaleLease`; and `UnstorableEvent`, once: then the run can still be failed."""
        if self.is_stale:
            raise StaleLease
        if self.has_lost_an_event:
            self.has_lost_an_event = False
            raise UnstorableEvent


def _tried_again(transaction: Callable[[], T]) -> T:
    """What a transaction gives; again, a few times, where the database undid it. Fences are checked
    each time."""
    for attempt in range(1, MOST_TRIES):
        try:
            return transaction()
        except OperationalError as error:
            if not left_nothing(error):
                raise
            logger.warning("Tried again: %s", error)
            time.sleep(random.uniform(0, TRY_AGAIN_SECONDS) * attempt)
    return transaction()


class EventWriter:
    """The group commit of one worker process."""

    def __init__(self) -> None:
        self._waiting: set[EventBuffer] = set()
        self._anything = asyncio.Event()
        self._urgent = asyncio.Event()

    def open(self, lease: Lease) -> EventBuffer:
        return EventBuffer(self, lease)

    def wake(self, buffer: EventBuffer, *, urgent: bool) -> None:
        self._waiting.add(buffer)
        self._anything.set()
        if urgent:
            self._urgent.set()

    async def run(self) -> None:
        """Write what is pending, tick by tick, until cancelled."""
        while True:
            await self._anything.wait()
            try:
                async with asyncio.timeout(settings.GATHER_SECONDS):
                    await self._urgent.wait()
            except TimeoutError:
                pass
            await self.flush()

    async def flush(self) -> None:
        self._anything.clear()
        self._urgent.clear()
        # A locked one is being written with its pending events at this moment.
        buffers = [buffer for buffer in self._waiting if not buffer.lock.locked()]
        self._waiting -= set(buffers)
        if self._waiting:
            self._anything.set()
        for buffer in buffers:
            await buffer.lock.acquire()  # free: nothing was awaited since the check
        try:
            taken = [(buffer, buffer.take()) for buffer in buffers]
            batches = [
                Batch(buffer.lease.run_id, buffer.lease.fence, pending)
                for buffer, pending in taken
                if pending
            ]
            if batches:
                last = await in_db(_tried_again, partial(log.append, batches))
                for buffer, pending in taken:
                    if not pending:
                        continue
                    if buffer.lease.run_id not in last:
                        buffer.is_stale = True
                    elif last[buffer.lease.run_id] is None:
                        buffer.has_lost_an_event = True
        except Exception:
            # The database is away: the leases run out, and the runs go on from their last step.
            logger.exception("Events could not be written")
            for buffer in buffers:
                buffer.is_stale = True
        finally:
            for buffer in buffers:
                buffer.lock.release()
