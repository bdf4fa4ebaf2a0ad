"""The live board: each teammate and what it does now. And the first steps of a newcomer."""

from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Exists, OuterRef, Q, Sum
from django.utils import timezone

from runs import reading, usage
from runs.models import (
    CallStatus,
    Channel,
    Gate,
    GateKind,
    Run,
    RunStatus,
    ToolCall,
)
from teammates.access import Access
from teammates.models import APIKey, Invitation, Membership, Provider, ProviderKind, Teammate

MOST_ROWS = 50
# What needs a look comes first.
ORDER = (RunStatus.WAITING, RunStatus.PAUSED, RunStatus.RUNNING, RunStatus.QUEUED, RunStatus.FAILED)
IDLE = len(ORDER)


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
    """Five queries, whatever the number of teammates."""
    teammates = Teammate.objects.visible_to(access).current().filter(end_user=None).with_version()
    runs = Run.objects.visible_to(access).with_names()
    by_teammate = reading.activity(access, runs)
    active = [run.pk for group in by_teammate.values() for run in group if not run.is_finished]
    calls = _open_calls(active)
    today = timezone.now().date()
    spent = dict(
        usage.days_of(access).filter(day=today).values_list("teammate").annotate(Sum("cost"))
    )
    found = [
        _row(teammate, by_teammate.get(teammate.pk, []), calls, spent)
        for teammate in teammates.order_by("id")[:MOST_ROWS]
    ]
    return sorted(found, key=lambda row: row.place)


def _row(
    teammate: Teammate, runs: list[Run], calls: dict[int, ToolCall], spent: dict[int, Decimal]
) -> Row:
    active = [run for run in runs if not run.is_finished]
    active.sort(key=lambda run: ORDER.index(RunStatus(run.status)))
    run = next(iter(active or runs), None)
    return Row(
        teammate, run, _doing(run, calls.get(run.pk)) if run else "", max(len(active) - 1, 0),
        spent.get(teammate.pk, Decimal(0)),
    )  # fmt: skip


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
    runs = Run.objects.filter(organization=access.organization, created_by=access.user)
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
