"""What every open tab is told: how many decisions wait for its person, and which is the newest.

One board per process. A notification names an organization; one look into the database answers all
of its tabs in this process.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from django.db.models import Count

from config.database import in_db
from config.wakeups import WakeUps
from runs.events.channels import LIVE_CHANNEL
from runs.models import WAITED_AT, Gate, GateStatus, Run
from teammates.access import Access
from teammates.types import JSON

logger = logging.getLogger("muster.live")
GATHER_SECONDS = 0.2  # several changes at once are one look
NEWEST = 50


@dataclass(eq=False)
class Watcher:
    """One tab. `tell` is called on the event loop."""

    access: Access
    tell: Callable[[JSON], None]


class LiveBoard:
    def __init__(self, wakeups: WakeUps) -> None:
        self._watchers: dict[int, set[Watcher]] = {}
        self._news: set[int] = set()
        self._any_news = asyncio.Event()
        wakeups.subscribe(LIVE_CHANNEL, self._wake)

    def _wake(self, payload: str) -> None:
        # An empty payload: the listener was away, so look at everything.
        self._news.update([int(payload)] if payload else self._watchers)
        if self._news:
            self._any_news.set()

    async def run(self) -> None:
        """Tell tabs what changed in their organization, until cancelled."""
        while True:
            await self._any_news.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._any_news.clear()
            news, self._news = self._news, set()
            for organization_id in news & self._watchers.keys():
                # Its last tab may have been closed while the others were told.
                await self._tell(organization_id, self._watchers.get(organization_id, set()))

    async def open(self, watcher: Watcher) -> None:
        """Tell a tab how things stand, and from now on what changes."""
        organization_id = watcher.access.organization.pk
        self._watchers.setdefault(organization_id, set()).add(watcher)
        await self._tell(organization_id, {watcher})

    def close(self, watcher: Watcher) -> None:
        organization_id = watcher.access.organization.pk
        watchers = self._watchers.get(organization_id, set())
        watchers.discard(watcher)
        if not watchers:
            self._watchers.pop(organization_id, None)

    async def _tell(self, organization_id: int, watchers: set[Watcher]) -> None:
        try:
            counts, gates = await in_db(_look, organization_id)
        except Exception:
            logger.exception("The live board could not be read")
            return
        for watcher in list(watchers):
            watcher.tell(_message(watcher.access, counts, gates))


def _look(organization_id: int) -> tuple[dict[int | None, int], list[JSON]]:
    """How many runs wait, by who started them, and the newest open gates. Two queries."""
    waiting = Run.objects.filter(organization_id=organization_id).needing_a_person()
    counts: dict[int | None, int] = {
        row["created_by"]: row["n"]
        for row in waiting.values("created_by").annotate(n=Count("id")).order_by()
    }
    gates = (
        Gate.objects.filter(WAITED_AT, status=GateStatus.PENDING, run__in=waiting)
        .order_by("-id")
        .values("id", "prompt", "run__created_by", "run__teammate__name")
    )
    return counts, [dict(gate) for gate in gates[:NEWEST]]


def _message(access: Access, counts: dict[int | None, int], gates: list[JSON]) -> JSON:
    """What one person may know of it."""
    user_id = access.user.pk if access.user else None
    is_theirs: Callable[[int | None], bool] = (
        (lambda who: True) if access.is_admin else (lambda who: who == user_id)
    )
    newest = next((gate for gate in gates if is_theirs(gate["run__created_by"])), None)
    return {
        "needs_you": sum(n for who, n in counts.items() if is_theirs(who)),
        "newest": {
            "id": newest["id"],
            "mate": newest["run__teammate__name"],
            "prompt": newest["prompt"][:200],
        }
        if newest
        else None,
    }
