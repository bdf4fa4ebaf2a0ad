"""What each teammate does now."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import Case, Count, F, OuterRef, Subquery, When, Window
from django.urls import reverse

from runs.models import ACTIVE, FINISHED, CallStatus, Run, RunStatus, ToolCall
from runs.models.run_query import RunQuerySet
from runs.usage import totals
from runs.usage.periods import Span
from teammates.access import Access
from teammates.models import Teammate
from teammates.models.teammate import TeammateQuerySet

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
    runs = Run.objects.visible_to(access)
    teammates = Teammate.objects.visible_to(access).current().filter(end_user=None)
    busy = under_way(runs.filter(teammate__in=teammates))
    first = list(busy)[:MOST_ROWS]
    ended = runs.filter(teammate=OuterRef("pk"), status__in=FINISHED).newest_first()
    chosen = (
        teammates.annotate(
            is_idle=Case(When(pk__in=first, then=False), default=True),
            ended=Subquery(ended.values("pk")[:1]),
        )
        .order_by(*(["is_idle"] if first else []), F("ended").desc(nulls_last=True), "id")
        .values_list("pk", "ended")[:MOST_ROWS]
    )
    shown_run = {pk: busy[pk].run_id if pk in busy else ended for pk, ended in chosen}
    by_id = Teammate.objects.with_version().in_bulk(list(shown_run))
    run_by_id = runs.for_list().in_bulk([pk for pk in shown_run.values() if pk])
    calls = _open_calls(list(run_by_id))
    spent = totals.by_teammate(access, Span.last(1), teammate__in=list(shown_run))
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


def under_way(runs: RunQuerySet) -> dict[int, Busy]:
    """Of each teammate at work in `runs`; those that most need a look first. One query."""
    place = Case(*(When(status=status, then=at) for at, status in enumerate(ORDER)), default=IDLE)
    firsts = (
        runs.filter(status__in=ACTIVE)
        .annotate(place=place, together=Window(Count("pk"), partition_by="teammate"))
        .order_by("teammate", "place", "-created_at", "-id")
        .distinct("teammate")
        .values_list("teammate_id", "pk", "status", "together", "place", "created_at")
    )
    ordered = sorted(firsts, key=lambda row: (row[4], -row[5].timestamp()))
    return {teammate: Busy(run, status, count) for teammate, run, status, count, *_ in ordered}


def _open_calls(run_ids: list[int]) -> dict[int, ToolCall]:
    calls = ToolCall.objects.filter(
        run__in=run_ids, status__in=[CallStatus.RUNNING, CallStatus.WAITING, CallStatus.UNKNOWN]
    )
    return {call.run_id: call for call in calls.order_by("run_id", "-pk").distinct("run_id")}


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
