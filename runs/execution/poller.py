"""One look at the database for all that a worker has to do without being told: nobody says that a
time has come, and a wake-up may be lost.
"""

import asyncio
import logging
from enum import StrEnum
from functools import reduce
from operator import or_
from typing import Any

from django.conf import settings
from django.db.models import Exists, Q, QuerySet

from config.compiled import compiled
from config.database import in_db
from runs.budgets import telling
from runs.gates import decisions
from runs.lifecycle import leases
from runs.notifications import mailer
from runs.triggers import scheduler
from runs.webhooks import sender
from teammates.integrations import checks
from teammates.knowledge import embedding
from teammates.models import Organization

logger = logging.getLogger("muster.poller")


class Work(StrEnum):
    RUNS = "runs"
    GATES = "gates"
    TRIGGERS = "triggers"
    MAIL = "mail"
    DELIVERIES = "deliveries"
    CHECKS = "checks"
    EMBEDDING = "embedding"
    BUDGETS = "budgets"


class Poller:
    """Sets the `news` of the loops that have something to do. `run` until cancelled."""

    def __init__(self) -> None:
        self.news = {work: asyncio.Event() for work in Work}

    async def run(self) -> None:
        while True:
            try:
                for work in await in_db(what_is_due):
                    self.news[work].set()
            except Exception:  # the database is away: later
                logger.exception("What is due could not be read")
            await asyncio.sleep(settings.POLL_SECONDS)


def what_is_due() -> list[Work]:
    """What there is something of, in one statement; it may be more than can be begun now."""
    found = _look.first() or ()
    return [work for work, is_due in zip(Work, found, strict=False) if is_due]


def _exists(*rows: "QuerySet[Any]") -> Q:
    return reduce(or_, (Q(Exists(some)) for some in rows))


@compiled
def _look() -> "QuerySet[Organization, tuple[bool, ...]]":
    found = {
        Work.RUNS: _exists(leases.due()),
        Work.GATES: _exists(decisions.due()),
        Work.TRIGGERS: _exists(*scheduler.due()),
        Work.MAIL: _exists(mailer.due()),
        Work.DELIVERIES: _exists(sender.due()),
        Work.CHECKS: _exists(*checks.due()),
        Work.EMBEDDING: _exists(embedding.due()),
        Work.BUDGETS: _exists(telling.due()),
    }
    columns = {f"has_{work}": found[work] for work in Work}
    return Organization.objects.order_by().annotate(**columns).values_list(*columns)[:1]
