"""What sandboxes keep between the pieces of code of a run, removed once the run is over."""

import asyncio
import logging
from uuid import UUID

from config.database import in_db
from runs.models import Run
from teammates import sandbox

logger = logging.getLogger("muster.worker")


async def remove_ended() -> None:
    """Remove what is kept for runs that are over, or deleted."""
    place = sandbox.current()
    why_not: str = await asyncio.to_thread(sandbox.why_not)
    if place is None or why_not:
        return
    try:
        kept = await place.kept()
        for run in set(kept) - await in_db(_unfinished, kept):
            await place.remove(run)
    except Exception:  # of a program or of the database: the next time
        logger.exception("Sandboxes of ended runs could not be removed")


def _unfinished(kept: list[str]) -> set[str]:
    if not kept:
        return set()
    runs = Run.objects.filter(uid__in=[UUID(run) for run in kept], finished_at=None)
    return {uid.hex for uid in runs.values_list("uid", flat=True)}
