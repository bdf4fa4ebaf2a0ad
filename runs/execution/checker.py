"""Carries out what waits for servers of others: questions to apps and models
(`integrations.checks`), vectors of passages (`knowledge.embedding`)."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from config.claim_loop import ClaimLoop
from config.database import in_db
from config.wakeups import WakeUps
from teammates.integrations.checks import Check

AT_ONCE = 16  # of a process


class Source(Protocol):
    """A module that knows what is due, and how it is done."""

    @property
    def CHANNEL(self) -> str: ...

    def claim_due(self, *, busy: set[int], limit: int) -> list[Check]: ...

    async def carry_out(self, check: Check) -> None: ...


class Checker(ClaimLoop[Check]):
    """One per worker and source."""

    def __init__(self, wakeups: WakeUps, news: asyncio.Event, source: Source) -> None:
        super().__init__(wakeups, news, source.CHANNEL)
        self._source = source

    async def claim(self, under_way: Sequence[Check]) -> list[Check]:
        room = AT_ONCE - len(under_way)
        if room < 1:
            return []
        busy = {check.organization_id for check in under_way if not check.is_long}
        return await in_db(self._source.claim_due, busy=busy, limit=room)

    async def carry_out(self, item: Check) -> None:
        await self._source.carry_out(item)
