"""Carries out what waits for servers of others: questions to apps and models
(`integrations.checks`), vectors of passages (`knowledge.embedding`)."""

import asyncio
import logging
from typing import Protocol

from config.database import in_db
from config.wakeups import WakeUps
from teammates.integrations.checks import Check

logger = logging.getLogger("muster.claims")
AT_ONCE = 16  # of a process


class Source(Protocol):
    """A module that knows what is due, and how it is done."""

    @property
    def CHANNEL(self) -> str: ...

    def claim_due(self, *, busy: set[int], limit: int) -> list[Check]: ...

    async def carry_out(self, check: Check) -> None: ...


class ClaimLoop:
    """One per worker and source. `run` until cancelled."""

    def __init__(self, wakeups: WakeUps, news: asyncio.Event, source: Source) -> None:
        self._look = news
        self._source = source
        self._under_way: dict[asyncio.Task[None], Check] = {}
        wakeups.subscribe(source.CHANNEL, lambda _: self._look.set())

    async def run(self) -> None:
        try:
            while True:
                self._look.clear()
                claimed = await self._claim()
                for check in claimed:
                    task = asyncio.create_task(self._carry_out(check))
                    self._under_way[task] = check
                    task.add_done_callback(self._ended)
                if not claimed:
                    await self._look.wait()
        finally:
            for task in self._under_way:
                task.cancel()

    async def _claim(self) -> list[Check]:
        room = AT_ONCE - len(self._under_way)
        if room < 1:
            return []
        try:
            under_way = self._under_way.values()
            busy = {check.organization_id for check in under_way if not check.is_long}
            return await in_db(self._source.claim_due, busy=busy, limit=room)
        except Exception:  # the database is away: later
            logger.exception("What is due could not be read")
            return []

    async def _carry_out(self, check: Check) -> None:
        try:
            await self._source.carry_out(check)
        except Exception:  # done again when its claim has run out
            logger.exception("%s could not be done", check.row)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._under_way.pop(task, None)
        self._look.set()
