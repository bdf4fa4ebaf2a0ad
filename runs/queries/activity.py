"""What each teammate does now."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Case, Count, F, OuterRef, QuerySet, Subquery, When, Window
from django.urls import reverse

from config.compiled import Hole, compiled
from runs.models import ACTIVE, FINISHED, CallStatus, Run, RunStatus, ToolCall
from runs.models.run_query import RunQuerySet
from runs.usage import totals
from runs.usage.periods import Span
from teammates.access import Access
from teammates.models import Teammate
from teammates.models.teammate import TeammateQuerySet
from teammates.scoped_query import scoped_query

MOST_ROWS = 50
MOST_LOOKED_AT = 200  # of a newcomer's runs
# What needs a look comes first.
ORDER = (RunStatus.WAITING, RunStatus.PAUSED, RunStatus.RUNNING, RunStatus.QUEUED, RunStatus.FAILED)
IDLE = len(ORDER)


@dataclass(frozen=True)
class Busy:
    """What a teammate has under way: the run that most needs a look, and how many there are."""

    run_id: int
    status: str
    count: int

    def get_status_display(self) -> str:
        return str(RunStatus(self.status).label)


@dataclass(frozen=True)
class ActivityRow:
    teammate: Teammate
    run: Run | None  # under way, or else the one that ended last
    doing: str
    more: int  # runs under way besides
    spent_today: Decimal

    @property
    def is_busy(self) -> bool:
        return self.run is not None and not self.run.is_finished

    @property
    def shows_status(self) -> bool:
        """Whether how its run stands is worth a look: it goes on, or failed."""
        return self.run is not None and (self.is_busy or self.run.status == RunStatus.FAILED)

    @property
    def next_url(self) -> str:
        """Where to decide, to watch, or to ask for something new."""
        if self.run is not None and self.run.status == RunStatus.WAITING:
            return f"{reverse('runs:needs_you')}?teammate={self.teammate.pk}"
        if self.run is not None and self.is_busy:
            return self.run.thread.get_absolute_url()
        return f"{reverse('runs:thread_new')}?teammate={self.teammate.pk}"

    @property
    def place(self) -> tuple[int, float]:
        if self.run is None:
            return IDLE, 0
        place = ORDER.index(RunStatus(self.run.status)) if self.run.status in ORDER else IDLE
        return place, -self.run.created_at.timestamp()


def with_last_active(teammates: TeammateQuerySet) -> TeammateQuerySet:
    """Beside each, when its last run began."""
    newest = Run.objects.filter(teammate=OuterRef("pk")).order_by("-created_at")
    return teammates.annotate(last_active_at=Subquery(newest.values("created_at")[:1]))


def with_activity(teammates: TeammateQuerySet) -> TeammateQuerySet:
    """`with_last_active`, and which runs and how many are under way (`Activity`)."""
    active = Run.objects.filter(teammate=OuterRef("pk"), status__in=ACTIVE)
    count = active.order_by().values("teammate").annotate(n=Count("pk")).values("n")
    return with_last_active(teammates).annotate(
        active_run_id=Subquery(active.order_by("-pk").values("pk")[:1]),
        active_run_count=Subquery(count),
    )


@dataclass(frozen=True)
class Activity:
    last_active_at: datetime | None
    active_run_id: int | None
    active_run_count: int


def activity_of(teammate: Teammate) -> Activity:
    """What `with_activity` put beside a teammate."""
    found = vars(teammate)
    return Activity(found["last_active_at"], found["active_run_id"], found["active_run_count"] or 0)


def rows(access: Access) -> list[ActivityRow]:
    """The `MOST_ROWS` teammates that most need a look. Six queries, whatever is under way."""
    busy = busy_of(_under_way.all(access))
    chosen = _chosen.all(access, first=list(busy)[:MOST_ROWS])
    shown_run = {pk: busy[pk].run_id if pk in busy else ended for pk, ended in chosen}
    by_id = {one.pk: one for one in _teammates.all(teammate_ids=list(shown_run))}
    run_ids = [pk for pk in shown_run.values() if pk]
    run_by_id = {run.pk: run for run in _runs.all(access, run_ids=run_ids)}
    calls = {call.run_id: call for call in _open_calls.all(run_ids=run_ids)}
    spent = totals.by_teammate(
        access, Span.last(1, access.organization.zone), teammate__in=list(shown_run)
    )
    found = []
    for pk, run_id in shown_run.items():
        run = run_by_id.get(run_id) if run_id else None
        found.append(
            ActivityRow(
                by_id[pk],
                run,
                _doing(run, calls.get(run.pk)) if run else "",
                more=busy[pk].count - 1 if pk in busy else 0,
                spent_today=spent[pk]["cost"] if pk in spent else Decimal(0),
            )
        )
    return sorted(found, key=lambda row: row.place)


def under_way(runs: RunQuerySet) -> "QuerySet[Run, Any]":
    """Of each teammate at work in `runs`, the one that most needs a look, for `busy_of`."""
    place = Case(*(When(status=status, then=at) for at, status in enumerate(ORDER)), default=IDLE)
    return (
        runs.filter(status__in=ACTIVE)
        .annotate(place=place, together=Window(Count("pk"), partition_by="teammate"))
        .order_by("teammate", "place", "-created_at", "-id")
        .distinct("teammate")
        .values_list("teammate_id", "pk", "status", "together", "place", "created_at")
    )


def busy_of(rows: "Iterable[tuple[Any, ...]]") -> dict[int, Busy]:
    """What each teammate has `under_way`; those that most need a look first."""
    ordered = sorted(rows, key=lambda row: (row[4], -row[5].timestamp()))
    return {teammate: Busy(run, status, count) for teammate, run, status, count, *_ in ordered}


def _on_board(access: Access) -> TeammateQuerySet:
    return Teammate.objects.visible_to(access).current().filter(end_user=None)


@scoped_query
def _under_way(access: Access) -> "QuerySet[Run, Any]":
    return under_way(Run.objects.visible_to(access).filter(teammate__in=_on_board(access)))


@scoped_query
def _chosen(access: Access, first: Hole) -> "QuerySet[Teammate, Any]":
    """Whom the board shows, those in `first` before others, and which of their runs ended last."""
    runs = Run.objects.visible_to(access)
    ended = runs.filter(teammate=OuterRef("pk"), status__in=FINISHED).newest_first()
    return (
        _on_board(access)
        .annotate(
            is_idle=Case(When(pk__any=first, then=False), default=True),
            ended=Subquery(ended.values("pk")[:1]),
        )
        .order_by("is_idle", F("ended").desc(nulls_last=True), "id")
        .values_list("pk", "ended")[:MOST_ROWS]
    )


@compiled
def _teammates(teammate_ids: Hole) -> TeammateQuerySet:
    return Teammate.objects.with_version().filter(pk__any=teammate_ids)


@scoped_query
def _runs(access: Access, run_ids: Hole) -> RunQuerySet:
    return Run.objects.visible_to(access).for_rows().filter(pk__any=run_ids)


@compiled
def _open_calls(run_ids: Hole) -> "QuerySet[ToolCall]":
    """The newest of each run that is not over."""
    is_open = [CallStatus.RUNNING, CallStatus.WAITING, CallStatus.UNKNOWN]
    calls = ToolCall.objects.filter(run__pk__any=run_ids, status__in=is_open)
    return calls.order_by("run_id", "-pk").distinct("run_id")


def _doing(run: Run, call: ToolCall | None) -> str:
    """What a run does now, in a few words."""
    said = (call.summary or call.title) if call else ""
    match run.status:
        case RunStatus.WAITING:
            return said or "Waits for a decision"
        case RunStatus.PAUSED:
            return run.pause_reason or "Paused"
        case RunStatus.QUEUED:
            return "Waits to try again" if run.next_retry_at else "Waits its turn"
        case RunStatus.RUNNING:
            return said or "Writing"
        case RunStatus.FAILED:
            return run.error_message
    return run.title
