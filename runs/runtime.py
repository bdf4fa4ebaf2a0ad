"""What lives as long as the process: readers, perhaps a worker, perhaps a listener for mails."""

import asyncio
import logging
from dataclasses import dataclass

from django.conf import settings

from config.database import in_db
from runs.execution.worker import Worker
from runs.inbox import smtp
from runs.lifecycle import workers
from runs.models import ProcessKind
from runs.streams.process import OnFailure, Readers, start_readers, watched

logger = logging.getLogger("muster.runtime")


@dataclass
class Runtime:
    readers: Readers
    worker: Worker | None = None
    mail: asyncio.Server | None = None
    _working: "asyncio.Task[None] | None" = None
    _beating: "asyncio.Task[None] | None" = None  # of a process without a worker

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
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        await self.readers.stop()


async def _beat() -> None:
    """Say that a process which only serves is there, until cancelled."""
    name = workers.name_of_process()
    try:
        while True:
            try:
                await in_db(workers.beat, name, kind=ProcessKind.WEB)
            except Exception:
                logger.exception("A sign of life could not be written; trying again")
            await asyncio.sleep(settings.LEASE_SECONDS / 6)
    finally:
        await in_db(workers.leave, name)


def start(*, with_worker: bool, on_failure: OnFailure | None = None) -> Runtime:
    """Start the readers, with a worker if asked. Needs a running event loop.

    `on_failure` is told when one of them dies: the process should not go on without it.
    """
    readers = start_readers(on_failure)
    if not with_worker:
        return Runtime(readers, _beating=watched(_beat(), "beat", on_failure))
    worker = Worker(readers.wakeups)
    working = watched(worker.run(), "worker", on_failure)
    return Runtime(readers, worker, _working=working)
