"""One ordered buffer of events per run, and the group commit of all of a worker's runs.

Deltas are gathered for `GATHER_SECONDS`, neighbours of a kind into one event; every other event,
the first delta of a step, and the beginning and end of a step (`EventBuffer.write`) go at once. One
transaction per tick carries them all: while one is on its way, the next gathers. Whatever else is
written for a run goes through `EventBuffer.commit`, in a transaction of its own, which takes the
run's pending events along.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from django.conf import settings
from django.db import OperationalError, connection, transaction

from config.database import in_db, left_nothing
from runs.events import log
from runs.events.log import Batch, StaleLease, UnstorableEvent
from runs.events.payloads import NewEvent
from runs.execution.step_completion import complete_model_steps
from runs.execution.step_journal import Write, begin_model_steps
from runs.lifecycle.transitions import Lease
from teammates.types import JSON

P = ParamSpec("P")
T = TypeVar("T")
I = TypeVar("I")  # noqa: E741
R = TypeVar("R")
logger = logging.getLogger("muster.recording")
MOST_TRIES = 5  # of a transaction that the database undoes
TRY_AGAIN_SECONDS = 0.05
LARGEST_DELTA = 4_000  # characters in one event, of up to six bytes, perhaps under two keys


class NotTaken:
    """The run is another worker's now, or should not go on."""


@dataclass
class Request:
    """What a run is to write with a verb of sets, and who waits for it."""

    verb: Callable[..., object]
    item: object
    done: "asyncio.Future[Any]"


class EventBuffer:
    """The buffer of one attempt. Used by the attempt's task alone."""

    def __init__(self, writer: "EventWriter", lease: Lease) -> None:
        self.lease = lease
        self.lock = asyncio.Lock()  # held while this run's events are on their way
        self.is_stale = False
        self.has_lost_an_event = False
        self._writer = writer
        self._pending: list[NewEvent] = []
        self._request: Request | None = None

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

    async def write(
        self, verb: Callable[[Sequence[Write[I]]], dict[int, R]], item: I
    ) -> R | NotTaken:
        """Write `item` with a verb of sets, behind everything that is pending for this run.

        Returns `NotTaken` if the verb left the run out; then nothing was written. Raises
        `StaleLease` if the database was lost, and what the item's own data caused.
        """
        self.raise_if_stale()
        self._request = Request(verb, item, asyncio.get_running_loop().create_future())
        done: asyncio.Future[R | NotTaken] = self._request.done
        self._writer.wake(self, urgent=True)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if self._request is not None and verb is begin_model_steps:  # not on its way yet
                self._request = None
            else:  # the transaction goes on in its thread; the next must not overtake it
                await asyncio.wait([done])
                done.exception()
            raise

    def take(self) -> list[NewEvent]:
        pending, self._pending = self._pending, []
        return pending

    def put_back(self, pending: list[NewEvent]) -> None:
        self._pending[:0] = pending

    def take_request(self) -> "Request | None":
        request, self._request = self._request, None
        return request

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
        taken = [_Taken(buffer, buffer.take(), buffer.take_request()) for buffer in buffers]
        try:
            for one in taken:
                if one.buffer.is_stale:  # perhaps another attempt of ours has its run
                    one.settle(StaleLease())
            fresh = [one for one in taken if not one.buffer.is_stale]
            wanted = [one for one in fresh if one.pending or one.request]
            if wanted:
                results = await in_db(_tried_again, partial(_write_all, wanted))
                for one in wanted:
                    one.settle(results[one.lease.run_id])
        except Exception as error:
            # The database is away: the leases run out, and the runs go on from their last step.
            logger.exception("Events could not be written")
            for one in taken:
                one.settle(StaleLease(), because=error)
        finally:
            for buffer in buffers:
                buffer.lock.release()


@dataclass(frozen=True)
class _Taken:
    """What one run has in a tick."""

    buffer: EventBuffer
    pending: list[NewEvent]
    request: Request | None

    @property
    def lease(self) -> Lease:
        return self.buffer.lease

    def settle(self, result: object, because: Exception | None = None) -> None:
        """Tell the buffer, and whoever waits for its request, what became of them."""
        if isinstance(result, NotTaken) and self.request is not None:
            self.buffer.put_back(self.pending)
        elif isinstance(result, StaleLease | NotTaken):
            self.buffer.is_stale = True
        elif isinstance(result, Exception) and self.request is None:
            self.buffer.has_lost_an_event = True
        if self.request is None or self.request.done.done():
            return
        if isinstance(result, Exception):
            result.__cause__ = because
            self.request.done.set_exception(result)
        else:
            self.request.done.set_result(result)


def _write_all(wanted: list[_Taken]) -> dict[int, object]:
    """Write a tick's runs in one transaction; what became of each: what its verb returned,
    `NotTaken`, or the error that its own data caused, which keeps nobody else's from being written.
    """
    try:
        with transaction.atomic():
            return _write_together(wanted)
    except Exception as error:
        if _is_everybodys(error):
            raise
        if len(wanted) == 1:
            logger.exception("What run %s is to say cannot be stored", wanted[0].lease.run_id)
            return {wanted[0].lease.run_id: error}
    return {run_id: result for one in wanted for run_id, result in _write_all([one]).items()}


def _is_everybodys(error: Exception) -> bool:
    """Whether the connection is lost or the transaction was undone, which no run's data causes."""
    if not isinstance(error, OperationalError):
        return False
    sqlstate = getattr(error.__cause__, "sqlstate", None)
    return sqlstate is None or left_nothing(error) or sqlstate[:2] in ("08", "57")


VERBS = (begin_model_steps, complete_model_steps)  # what ends runs locks their days: it comes last
_LOCK = "SELECT FROM runs_run WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"


def _write_together(wanted: list[_Taken]) -> dict[int, object]:
    results: dict[int, object] = {one.lease.run_id: NotTaken() for one in wanted}
    if len({one.request and one.request.verb for one in wanted}) > 1:
        # Several statements: all rows first, in order, as every transaction takes several.
        with connection.cursor() as cursor:
            cursor.execute(_LOCK, [[one.lease.run_id for one in wanted]])
    alone = [one for one in wanted if one.request is None]
    batches = [Batch(one.lease.run_id, one.lease.fence, one.pending) for one in alone]
    results |= log.write(batches)
    for verb in VERBS:
        writes: list[Write[Any]] = [
            Write(one.lease, one.pending, one.request.item)
            for one in wanted
            if one.request is not None and one.request.verb is verb
        ]
        if writes:
            results |= verb(writes)
    return results
