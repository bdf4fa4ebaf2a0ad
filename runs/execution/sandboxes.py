"""What sandboxes keep between the pieces of code of a run, removed once the run is not at work."""

import asyncio
import logging
from uuid import UUID

from config.database import in_db
from runs.models import Run, RunStatus
from teammates import sandbox

logger = logging.getLogger("muster.worker")


async def tidy() -> None:
    """Remove what is left of runs that are over, or wait: what they wrote is in their threads."""
    there = sandbox.current()
    why_not: str = await asyncio.to_thread(sandbox.why_not)
    if there is None or why_not:
        return
    try:
        await there.tidy(_working)
    except Exception:  # of a program or of the database: the next time
        logger.exception("What sandboxes keep could not be removed")


async def _working(kept: list[str]) -> set[str]:
    return await in_db(_at_work, kept) if kept else set()


def _at_work(kept: list[str]) -> set[str]:
    at_work = (RunStatus.QUEUED, RunStatus.RUNNING)
    runs = Run.objects.filter(uid__in=[UUID(run) for run in kept], status__in=at_work)
    return {uid.hex for uid in runs.values_list("uid", flat=True)}
