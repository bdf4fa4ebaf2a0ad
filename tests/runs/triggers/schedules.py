"""What the tests of triggers share."""

from datetime import datetime, timedelta
from typing import Any

from runs.models import (
    Firing,
    RunStatus,
    Task,
    Trigger,
)
from runs.tasks import tasks
from runs.triggers import definitions, scheduler
from teammates.access import Access
from teammates.roster import editing
from tests.factories import bring_to

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def make_task(access: Access, **fields: Any) -> Task:
    teammate = editing.create_teammate(access, name="Ops")
    return tasks.create_task(access, teammate, **{"instructions": "Look after it."} | fields)


def make_schedule(access: Access, task: Task | None = None, **fields: Any) -> Trigger:
    """Every hour from now on, unless `fields` say otherwise; active."""
    timing = fields if {"cron", "run_at"} & set(fields) else {"interval_seconds": 3600} | fields
    made = definitions.add_schedule(access, task or make_task(access), **timing)
    scheduler.schedule_next()
    made.refresh_from_db()
    return made


def at(trigger: Trigger, hours: float) -> datetime:
    return trigger.starts_at + timedelta(hours=hours)


def look(now: datetime) -> list[Firing]:
    """What one look at that moment leaves written down, oldest first."""
    before = set(Firing.objects.values_list("pk", flat=True))
    scheduler.run_due(now)
    return list(Firing.objects.exclude(pk__in=before).order_by("id"))


def finish(firing: Firing, status: str = RunStatus.COMPLETED) -> None:
    assert firing.run is not None
    bring_to(firing.run, status)


class Killed(BaseException):
    """Nothing of ours catches it."""
