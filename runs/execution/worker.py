"""A worker: claims queued runs, executes many at once on one event loop, renews their leases.

It consumes the `runs` channel of the process's channel layer (a wake-up, see `WorkerConsumer`)
beside a timer; what there is to do it always reads from the database.
"""

import asyncio
import logging
import os
import time
from itertools import count
from typing import Any

from channels.consumer import AsyncConsumer
from channels.layers import get_channel_layer
from channels.worker import Worker as ChannelWorker
from django.conf import settings

from config.database import in_db
from config.wakeups import WakeUps
from runs.budgets import telling
from runs.events import channels
from runs.execution import loop, sandboxes
from runs.execution.attempt import Attempt
from runs.execution.checker import Checker
from runs.execution.event_buffer import EventWriter
from runs.execution.poller import Poller, Work
from runs.gates import decisions
from runs.lifecycle import leases, workers
from runs.lifecycle.transitions import Lease
from runs.notifications import digests, mailer
from runs.retention import cleanup, closed_accounts, erasure
from runs.triggers import scheduler
from runs.usage import days, unusual
from runs.webhooks.sender import Sender
from teammates import providers
from teammates.integrations import checks
from teammates.knowledge import embedding
from teammates.tools import servers
from teammates.types import JSON

logger = logging.getLogger("muster.worker")
CHANNEL = "runs"
DRAIN_SECONDS = 3.0  # short steps may end before runs are handed back
CANCEL_SECONDS = 3.0
TIDY_SECONDS = 60
WATCH_SECONDS = 60
UNUSUAL_MINUTES = 15


class Worker:
    """One per process. `run` until `stop`; a SIGKILL at any moment loses nothing."""

    def __init__(self, wakeups: WakeUps) -> None:
        self.name = workers.name_of_process()
        self._writer = EventWriter()
        self._attempts: dict[int, tuple[Attempt, asyncio.Task[None]]] = {}
        self._stopping = asyncio.Event()
        self._poller = Poller()
        news = self._poller.news
        self._look = news[Work.RUNS]
        self._courier = Sender(wakeups, news[Work.DELIVERIES])
        self._checks = Checker(wakeups, news[Work.CHECKS], checks)
        self._embedding = Checker(wakeups, news[Work.EMBEDDING], embedding)
        wakeups.subscribe(channels.WORK_CHANNEL, self._wake_through_layer)
        wakeups.subscribe(channels.CANCEL_CHANNEL, self._cancel)

    async def run(self) -> None:
        """Work until `stop` is called. If a side task dies, so does the worker."""
        await self._try(leases.expire_leases_of_dead, workers.machine(), _is_alive)
        await self._try(leases.sweep_expired)
        await self._try(workers.beat, self.name, running=0, capacity=settings.WORKER_CONCURRENCY)
        sides = [
            asyncio.create_task(self._consume(), name="channel"),
            asyncio.create_task(self._writer.run(), name="writer"),
            asyncio.create_task(self._keep_leases(), name="leases"),
            asyncio.create_task(self._poller.run(), name="poller"),
            asyncio.create_task(self._expire_gates(), name="promises"),
            asyncio.create_task(self._start_due(), name="time"),
            asyncio.create_task(self._send_mail(), name="mail"),
            asyncio.create_task(self._courier.run(), name="webhooks"),
            asyncio.create_task(self._checks.run(), name="checks"),
            asyncio.create_task(self._embedding.run(), name="embedding"),
            asyncio.create_task(self._tell_of_budgets(), name="budgets"),
            asyncio.create_task(self._watch_spending(), name="spending"),
            asyncio.create_task(self._tidy(), name="tidy"),
        ]
        claims = asyncio.create_task(self._claim_loop(), name="claims")
        sides.append(claims)
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait([*sides, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()
        finally:
            claims.cancel()
            await asyncio.gather(claims, return_exceptions=True)
            await self._drain()
            await self._try(workers.leave, self.name)
            for task in [*sides, stopped]:
                task.cancel()
            await asyncio.gather(*sides, stopped, return_exceptions=True)
            await providers.close_clients()
            await servers.close_sessions()

    def stop(self) -> None:
        """Claim no more, let short steps end, hand the rest back; `run` returns then."""
        self._stopping.set()

    def look(self) -> None:
        """Something may be queued."""
        self._look.set()

    # --- waking up ---

    def _wake_through_layer(self, _: str) -> None:
        if not self._look.is_set():
            layer = get_channel_layer()
            assert layer is not None
            task = asyncio.ensure_future(layer.send(CHANNEL, {"type": "work.queued"}))
            task.add_done_callback(_swallow_full)

    async def _consume(self) -> None:
        consumer = WorkerConsumer.as_asgi(worker=self)
        channel_worker = ChannelWorker(consumer, [CHANNEL], get_channel_layer())
        try:
            await channel_worker.listener(CHANNEL)
        finally:
            for instance in channel_worker.application_instances.values():
                instance["future"].cancel()

    def _cancel(self, payload: str) -> None:
        if payload and int(payload) in self._attempts:
            self._stop_attempt(int(payload), "cancel")

    def _stop_attempt(self, run_id: int, why: str) -> None:
        attempt, task = self._attempts[run_id]
        if not attempt.stopping:
            attempt.stopping = why
            task.cancel()

    # --- claiming ---

    async def _claim_loop(self) -> None:
        while True:
            self._look.clear()
            free = settings.WORKER_CONCURRENCY - len(self._attempts)
            claimed = await self._claim(min(free, 20))
            for lease in claimed or []:
                self._begin(lease)
            if claimed and len(claimed) == min(free, 20):
                continue
            await self._look.wait()

    async def _claim(self, limit: int) -> list[Lease] | None:
        """Claim; a worker that is stopped in the middle gives back what the claim took."""
        claiming = asyncio.ensure_future(
            self._try(leases.claim_runs, worker=self.name, limit=limit)
        )
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            for lease in await claiming or []:
                await in_db(leases.release_run, lease, [])
            raise

    def _begin(self, lease: Lease) -> None:
        if lease.run_id in self._attempts:  # the lease ran out, and came back to us
            self._attempts[lease.run_id][0].events.is_stale = True
            self._stop_attempt(lease.run_id, "lost")
        attempt = Attempt(lease, self._writer.open(lease))
        task = asyncio.create_task(loop.execute(attempt), name=f"run {lease.run_id}")
        self._attempts[lease.run_id] = (attempt, task)
        task.add_done_callback(lambda task: self._ended(lease, task))

    def _ended(self, lease: Lease, task: "asyncio.Task[None]") -> None:
        current = self._attempts.get(lease.run_id)
        if current and current[0].lease == lease:
            del self._attempts[lease.run_id]
        if not task.cancelled() and (error := task.exception()):
            logger.error("The attempt at run %s crashed", lease.run_id, exc_info=error)
        self._look.set()

    # --- leases ---

    async def _keep_leases(self) -> None:
        """Renew all leases in one statement, stop what was cancelled or lost, sweep the silent."""
        every = settings.LEASE_SECONDS / 6
        while True:
            await asyncio.sleep(every)
            held = {a.lease.run_id: a.lease for a, _ in self._attempts.values()}
            renewed = await self._try(leases.renew_leases, list(held.values()))
            if renewed is not None:
                still_mine, to_cancel = renewed
                for run_id, lease in held.items():
                    current = self._attempts.get(run_id)
                    if current is None or current[0].lease != lease:
                        continue
                    if run_id not in still_mine:
                        current[0].events.is_stale = True
                        self._stop_attempt(run_id, "lost")
                    elif run_id in to_cancel:
                        self._stop_attempt(run_id, "cancel")
            self._stop_what_takes_too_long()
            await self._try(leases.sweep_expired)
            await self._try(
                workers.beat, self.name, running=len(held), capacity=settings.WORKER_CONCURRENCY
            )
            await self._try(leases.close_orphans)

    def _stop_what_takes_too_long(self) -> None:
        now = time.monotonic()
        for run_id, (attempt, _) in list(self._attempts.items()):
            if now - attempt.began_at > settings.RUN_SECONDS:
                self._stop_attempt(run_id, "too_long")

    async def _try(self, verb: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a verb; while the database is away, say so and go on."""
        try:
            return await in_db(verb, *args, **kwargs)
        except Exception:
            logger.exception("%s failed; trying again", verb.__name__)
            await asyncio.sleep(0.5)
            return None

    async def _wait_for(self, work: Work) -> None:
        news = self._poller.news[work]
        await news.wait()
        news.clear()

    async def _expire_gates(self) -> None:
        """Decide gates whose time is up."""
        while True:
            await self._wait_for(Work.GATES)
            await self._try(decisions.expire_due)

    async def _tell_of_budgets(self) -> None:
        while True:
            await self._wait_for(Work.BUDGETS)
            await self._try(telling.tell_due)

    async def _watch_spending(self) -> None:
        """Tell of days that cost too much, and of what was used."""
        for minute in count():
            await self._try(days.follow_timezones)
            if minute % UNUSUAL_MINUTES == 0:
                await self._try(unusual.tell_of_days)
            await self._try(digests.write_due)
            await asyncio.sleep(WATCH_SECONDS)

    async def _start_due(self) -> None:
        """Start what is due."""
        while True:
            await self._wait_for(Work.TRIGGERS)
            while await self._try(scheduler.run_due):
                pass

    async def _tidy(self) -> None:
        """Forget what is not to be kept."""
        while True:
            await self._try(erasure.erase_said)
            await self._try(closed_accounts.erase_closed)
            await self._try(cleanup.forget_old)
            await sandboxes.tidy()
            await asyncio.sleep(TIDY_SECONDS)

    async def _send_mail(self) -> None:
        """Mail the notices that are due; a slow mail server delays nothing else."""
        while True:
            await self._wait_for(Work.MAIL)
            for outgoing in await self._try(mailer.claim_due) or []:
                problem = await asyncio.to_thread(mailer.send, outgoing)
                await self._try(mailer.record_sent, outgoing, problem)

    # --- stopping ---

    async def _drain(self) -> None:
        tasks = [task for _, task in self._attempts.values()]
        if not tasks:
            return
        await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
        for run_id in list(self._attempts):
            self._stop_attempt(run_id, "shutdown")
        left = [task for _, task in self._attempts.values()]
        if left:
            await asyncio.wait(left, timeout=CANCEL_SECONDS)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class WorkerConsumer(AsyncConsumer):
    """The end of the `runs` channel: a message there says only that it is time to look."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def work_queued(self, message: JSON) -> None:
        self._worker.look()


def _swallow_full(task: "asyncio.Future[None]") -> None:
    """A full channel means that a wake-up is on its way already."""
    if not task.cancelled():
        task.exception()
