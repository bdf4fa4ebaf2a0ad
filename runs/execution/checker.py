"""Asks apps and models whether they answer, when somebody wants to know (`integrations.checks`)."""

import asyncio
import logging

from config.database import in_db
from config.wakeups import WakeUps
from teammates.integrations import checks
from teammates.integrations.checks import Check

logger = logging.getLogger("muster.checker")
AT_ONCE = 16  # questions of a process


class Checker:
    """One per worker. `run` until cancelled."""

    def __init__(self, wakeups: WakeUps, news: asyncio.Event) -> None:
        self._look = news
        self._under_way: dict[asyncio.Task[None], Check] = {}
        wakeups.subscribe(checks.CHANNEL, lambda _: self._look.set())

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
            return await in_db(checks.claim_due, busy=busy, limit=room)
        except Exception:  # the database is away: later
            logger.exception("What is to be asked could not be read")
            return []

    async def _carry_out(self, check: Check) -> None:
        try:
            await checks.carry_out(check)
        except Exception:  # asked again when its claim has run out
            logger.exception("%s could not be asked", check.row)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._under_way.pop(task, None)
        self._look.set()
