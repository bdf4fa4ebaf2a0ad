"""What somebody's home page shows beside the board."""

from dataclasses import dataclass
from datetime import timedelta

from django.db.models import IntegerField, QuerySet, Subquery
from django.utils import timezone

from config.compiled import Hole, compiled
from runs.models import FINISHED, ON_HOME, Notice, Run, RunStatus, Task, Trigger
from runs.models.run_query import RunQuerySet
from teammates.access import Access
from teammates.models import Organization
from teammates.scoped_query import scoped_query

RECENT = timedelta(days=3)
MOST_COUNTED = 1000
MOST_NOTICES, MOST_UNSEEN, MOST_UPCOMING = 10, 6, 5


@dataclass(frozen=True)
class Counts:
    """Of the runs that the asker sees; none is counted beyond `MOST_COUNTED`."""

    waiting: int
    running: int  # or queued
    failed: int  # in 24 hours


def counts(access: Access) -> Counts:
    ((waiting, running, failed),) = _counts.all(
        access, since=timezone.now() - timedelta(days=1), account_id=access.organization.pk
    )
    return Counts(waiting, running, failed)


def notices(access: Access) -> list[Notice]:
    """What teammates told the person, newest first, until it is dismissed."""
    person = access.require_person()
    return _notices.all(organization_id=access.organization.pk, person_id=person.pk)


def unseen(access: Access) -> list[Run]:
    """The person's own runs that ended lately and whose result nobody has looked at."""
    person = access.require_person()
    return _unseen.all(access, since=timezone.now() - RECENT, person_id=person.pk)


def upcoming(access: Access) -> list[Trigger]:
    """What starts next by itself."""
    return _upcoming.all(access, at=timezone.now())


class CountOf(Subquery):
    """How many rows a query has, as a column."""

    template = "(SELECT count(*) FROM (%(subquery)s) AS counted)"
    output_field = IntegerField()


@scoped_query
def _counts(
    access: Access, since: Hole, account_id: Hole
) -> "QuerySet[Organization, tuple[int, int, int]]":
    runs = Run.objects.visible_to(access)
    counted = (
        runs.needing_a_person(),
        runs.filter(status__in=[RunStatus.QUEUED, RunStatus.RUNNING]),
        runs.filter(status=RunStatus.FAILED, created_at__gte=since),
    )
    columns = [CountOf(some.values("pk")[:MOST_COUNTED]) for some in counted]
    return Organization.objects.filter(pk=account_id).values_list(*columns)


@compiled
def _notices(organization_id: Hole, person_id: Hole) -> "QuerySet[Notice]":
    shown = Notice.objects.filter(user=person_id, kind__in=ON_HOME, dismissed_at=None)
    here = shown.filter(run__organization=organization_id)
    return here.select_related("run__teammate").order_by("-id")[:MOST_NOTICES]


@scoped_query
def _unseen(access: Access, since: Hole, person_id: Hole) -> RunQuerySet:
    ended = Run.objects.visible_to(access).filter(status__in=FINISHED, created_by=person_id)
    new = ended.filter(last_viewed_at=None, archived_at=None, created_at__gte=since)
    new = new.exclude(status=RunStatus.CLOSED)
    return new.for_list().select_related("answer").newest_first()[:MOST_UNSEEN]


@scoped_query
def _upcoming(access: Access, at: Hole) -> "QuerySet[Trigger]":
    tasks = Task.objects.visible_to(access).saved()
    due = Trigger.objects.active().filter(next_at__gte=at, task__in=tasks)
    return due.select_related("task__teammate").order_by("next_at")[:MOST_UPCOMING]
