"""The readers of this process: its wake-ups, the hub of its streams, its live board."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from config.wakeups import WakeUps
from runs.streams.hub import Hub
from runs.streams.live import LiveBoard
from teammates.access_cache import cache as access_cache

logger = logging.getLogger("muster.runtime")

OnFailure = Callable[[BaseException], None]


@dataclass
class Readers:
    wakeups: WakeUps
    hub: Hub
    board: LiveBoard
    _tasks: list["asyncio.Task[None]"]

    async def stop(self) -> None:
        global _readers
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        _readers = None


_readers: Readers | None = None


def readers() -> Readers:
    """The readers of this process, started on first use where nobody started them."""
    return _readers or start_readers()


def start_readers(on_failure: OnFailure | None = None) -> Readers:
    """Start listening and serving readers. Needs a running event loop.

    `on_failure` is told when one of them dies: the process should not go on without it.
    """
    global _readers
    wakeups = WakeUps()
    hub = Hub(wakeups)
    board = LiveBoard(wakeups)
    access_cache.follow(wakeups)
    tasks = [
        watched(wakeups.run(), "wake-ups", on_failure),
        watched(hub.run(), "hub", on_failure),
        watched(board.run(), "live board", on_failure),
    ]
    _readers = Readers(wakeups, hub, board, tasks)
    return _readers


def watched(
    work: Coroutine[Any, Any, None], name: str, on_failure: OnFailure | None
) -> "asyncio.Task[None]":
    """A task that lives as long as the process. Its end by an error is logged and told."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(partial(_complain, on_failure))
    return task


def _complain(on_failure: OnFailure | None, task: "asyncio.Task[None]") -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    logger.error("%s stopped", task.get_name(), exc_info=error)
    if on_failure is not None:
        on_failure(error)
