"""What processes claim in the database, one item each, and do beside other work of its kind."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from config.wakeups import WakeUps

T = TypeVar("T")
logger = logging.getLogger("muster.claims")


class ClaimLoop(ABC, Generic[T]):
    """Claims what is due and carries each out in a task of its own, until none is left; then waits
    for news. What a task leaves undone is claimed again once its claim has run out. `run` until
    cancelled."""

    def __init__(self, wakeups: WakeUps, news: asyncio.Event, channel: str) -> None:
        self._look = news
        self._under_way: dict[asyncio.Task[None], T] = {}
        wakeups.subscribe(channel, lambda _: self._look.set())

    @abstractmethod
    async def claim(self, under_way: Sequence[T]) -> Sequence[T]:
        """Take more of what is due, beside what is `under_way` in this process."""

    @abstractmethod
    async def carry_out(self, item: T) -> None: ...

    async def run(self) -> None:
        try:
            while True:
                self._look.clear()
                claimed = await self._claim()
                for item in claimed:
                    task = asyncio.create_task(self._carry_out(item))
                    self._under_way[task] = item
                    task.add_done_callback(self._ended)
                if not claimed:
                    await self._look.wait()
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _claim(self) -> Sequence[T]:
        try:
            return await self.claim(list(self._under_way.values()))
        except Exception:  # the database is away: later
            logger.exception("What is due could not be read")
            return []

    async def _carry_out(self, item: T) -> None:
        try:
            await self.carry_out(item)
        except Exception:
            logger.exception("%s could not be done", item)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._under_way.pop(task, None)
        self._look.set()
