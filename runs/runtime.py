"""What lives as long as the process: the wake-ups, the hub of its readers, perhaps its worker."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from config.wakeups import WakeUps
from runs.execution.worker import Worker
from runs.inbox import smtp
from runs.streams.hub import Hub
from runs.streams.live import LiveBoard

logger = logging.getLogger("muster.runtime")


@dataclass
class Runtime:
    wakeups: WakeUps
    hub: Hub
    board: LiveBoard
    worker: Worker | None
    _tasks: list["asyncio.Task[None]"]
    mail: asyncio.Server | None = None
    _working: "asyncio.Task[None] | None" = None

    async def run_worker(self) -> None:
        """Wait for the worker's end; an error of it is raised here."""
        if self._working is not None:
            await asyncio.shield(self._working)

    async def take_mail(self, address: str) -> None:
        """Listen for mails at `host:port`. Raises `OSError` where nobody can."""
        host, _, port = address.rpartition(":")
        self.mail = await smtp.listen(host.strip("[]"), int(port))

    async def stop(self) -> None:
        """Drain the worker, then end the rest."""
        if self.mail is not None:
            self.mail.close()
        if self.worker is not None and self._working is not None:
            self.worker.stop()
            await asyncio.wait([self._working], timeout=8)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        global _runtime
        _runtime = None


_runtime: Runtime | None = None


def runtime() -> Runtime:
    """The runtime of this process; started on first use where no worker was asked for."""
    return _runtime or start(with_worker=False)


def start(
    *, with_worker: bool, on_failure: Callable[[BaseException], None] | None = None
) -> Runtime:
    """Start listening and serving readers, with a worker if asked. Needs a running event loop.

    `on_failure` is told when one of them dies: the process should not go on without it.
    """
    global _runtime
    wakeups = WakeUps()
    hub = Hub(wakeups)
    board = LiveBoard(wakeups)
    worker = Worker(wakeups) if with_worker else None
    tasks = [
        asyncio.create_task(wakeups.run(), name="wake-ups"),
        asyncio.create_task(hub.run(), name="hub"),
        asyncio.create_task(board.run(), name="live board"),
    ]
    _runtime = Runtime(wakeups, hub, board, worker, tasks)
    if worker is not None:
        _runtime._working = asyncio.create_task(worker.run(), name="worker")
        tasks.append(_runtime._working)
    for task in tasks:
        task.add_done_callback(partial(_complain, on_failure))
    return _runtime


def _complain(
    on_failure: Callable[[BaseException], None] | None, task: "asyncio.Task[None]"
) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    logger.error("%s stopped", task.get_name(), exc_info=error)
    if on_failure is not None:
        on_failure(error)
