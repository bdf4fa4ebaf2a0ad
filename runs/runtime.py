"""What lives as long as the process: readers, perhaps a worker, perhaps a listener for mails."""

import asyncio
from dataclasses import dataclass

from runs.execution.worker import Worker
from runs.inbox import smtp
from runs.streams.process import OnFailure, Readers, start_readers, watched


@dataclass
class Runtime:
    readers: Readers
    worker: Worker | None = None
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
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
        await self.readers.stop()


def start(*, with_worker: bool, on_failure: OnFailure | None = None) -> Runtime:
    """Start the readers, with a worker if asked. Needs a running event loop.

    `on_failure` is told when one of them dies: the process should not go on without it.
    """
    readers = start_readers(on_failure)
    if not with_worker:
        return Runtime(readers)
    worker = Worker(readers.wakeups)
    working = watched(worker.run(), "worker", on_failure)
    return Runtime(readers, worker, _working=working)
