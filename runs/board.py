"""The live board: each teammate and what it does now. And the first steps of a newcomer."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Case, Count, Exists, F, OuterRef, Q, Subquery, When, Window

from runs.models import (
    ACTIVE,
    FINISHED,
    CallStatus,
    Channel,
    Gate,
    GateKind,
    Run,
    RunStatus,
    ToolCall,
)
from runs.usage import totals
from runs.usage.periods import Span
from teammates.access import Access
from teammates.models import APIKey, Invitation, Membership, Provider, ProviderKind, Teammate

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
class Row:
    teammate: Teammate
    run: Run | None  # under way, or else the one that ended last
    doing: str
    more: int  # runs under way besides
    spent_today: Decimal

    @property
    def is_busy(self) -> bool:
        return self.run is not None and not self.run.is_finished

    @property
    def place(self) -> tuple[int, float]:
        if self.run is None:
            return IDLE, 0
        place = ORDER.index(RunStatus(self.run.status)) if self.run.status in ORDER else IDLE
        return place, -self.run.created_at.timestamp()


def rows(access: Access) -> list[Row]:
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
    run_by_id = runs.with_names().in_bulk([pk for pk in shown_run.values() if pk])
    calls = _open_calls(list(run_by_id))
    spent = totals.by_teammate(access, Span.last(1), teammate__in=list(shown_run))
    found = []
    for pk, run_id in shown_run.items():
        run = run_by_id.get(run_id) if run_id else None
        found.append(Row(
            by_id[pk], run, _doing(run, calls.get(run.pk)) if run else "",
            more=busy[pk].count - 1 if pk in busy else 0,
            spent_today=spent[pk]["cost"] if pk in spent else Decimal(0),
        ))  # fmt: skip
    return sorted(found, key=lambda row: row.place)


def under_way(runs: Any) -> dict[int, Busy]:
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


# --- first steps --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    key: str
    words: str
    is_done: bool


def first_steps(access: Access) -> list[Step]:
    """What a newcomer has tried, in one query."""
    mine_newest = Run.objects.filter(organization=access.organization, created_by=access.user)
    runs = Run.objects.filter(pk__in=mine_newest.newest_first().values("pk")[:MOST_LOOKED_AT])
    decided = Gate.objects.filter(run__organization=access.organization, decided_by=access.user)
    mine = Membership.objects.filter(organization=access.organization)
    keys = APIKey.objects.filter(organization=access.organization, created_by=access.user)
    providers = Provider.objects.filter(organization=access.organization)
    is_connected = ~Q(api_key="") | Q(kind__in=[ProviderKind.OLLAMA, ProviderKind.COMPATIBLE])
    done = dict(mine.filter(user=access.user).annotate(
        ran=Exists(runs.filter(channel=Channel.APP)),
        answered=Exists(decided.filter(kind__in=[GateKind.QUESTION, GateKind.PLAN])),
        approved=Exists(decided.filter(kind=GateKind.APPROVAL)),
        looked=Exists(runs.exclude(last_viewed_at=None)),
        connected=Exists(providers.filter(is_connected)),
        invited=Exists(
            Invitation.objects.filter(organization=OuterRef("organization"))
        ) | Exists(mine.exclude(user=access.user)),
        called=Exists(keys.exclude(last_used_at=None)),
    ).values().get())  # fmt: skip
    steps = [
        ("ran", "Say hello to Demo"), ("answered", "Answer its question"),
        ("approved", "Approve what it wants to do"), ("looked", "Look into a run"),
        ("connected", "Add a model of your own"), ("invited", "Invite somebody"),
        ("called", "Make the first call from a program"),
    ]  # fmt: skip
    hidden = set() if access.may("org.members.invite") else {"connected", "invited"}
    return [Step(key, words, bool(done[key])) for key, words in steps if key not in hidden]
