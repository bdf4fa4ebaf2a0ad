"""Why a run is as it is: what it waits for, what failed, how full its context is."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import Count, Max, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from config.compiled import Hole, compiled
from runs.lifecycle import workers
from runs.models import (
    ACTIVE,
    BudgetHold,
    Gate,
    GateStatus,
    Run,
    RunStatus,
    Step,
    StepKind,
    StepStatus,
)
from teammates.types import JSON
from threads.models import Thread


@dataclass(frozen=True)
class ContextUse:
    """How much of what a model can read the last call of a thread took."""

    used: int
    size: int


def context_use(thread: Thread) -> ContextUse | None:
    """Of the newest model call that is over; None if there was none yet."""
    step = _newest_step.first(thread_id=thread.pk)
    if step is None or step.run.route is None:
        return None
    size = step.run.route.context_window
    return ContextUse(step.input_tokens + step.output_tokens, size)


@compiled
def _newest_step(thread_id: Hole) -> "QuerySet[Step]":
    done = Step.objects.filter(
        run__thread=thread_id, kind=StepKind.MODEL, status=StepStatus.DONE
    ).select_related("run__route")
    return done.only("input_tokens", "output_tokens", "run__route").order_by("-id")[:1]


@dataclass(frozen=True)
class Reason:
    """Why a run is not finished, in a sentence; `url` leads to what can be done."""

    words: str
    since: datetime
    gate: Gate | None = None


def reason_of(run: Run) -> Reason | None:
    """None for a run that is over or that a worker is at."""
    match run.status:
        case RunStatus.WAITING:
            gate = Gate.objects.filter(run=run, status=GateStatus.PENDING).order_by("pk").first()
            if gate is not None:
                return Reason(f"Waits for a decision: {gate.prompt}", gate.created_at, gate)
        case RunStatus.PAUSED:
            return Reason(run.pause_reason or "Paused", run.updated_at)
        case RunStatus.QUEUED:
            return Reason(_why_queued(run), run.available_at)
    return None


def _why_queued(run: Run) -> str:
    if run.next_retry_at is not None:
        at = timezone.localtime(run.next_retry_at)
        return f"The model did not answer; it is asked again at {at:%H:%M:%S}"
    ahead = Run.objects.filter(
        thread=run.thread_id, status__in=ACTIVE, position__lt=run.position
    ).count()
    if ahead:
        return f"Waits for {ahead} message{'s' if ahead > 1 else ''} before it in the thread"
    if not workers.is_anybody_working():
        return "No worker is running; it begins as soon as one does"
    running = Run.objects.filter(organization=run.organization_id, status=RunStatus.RUNNING).count()
    if running >= run.organization.max_running:
        return f"Waits for a place: {running} runs of the organization are at work"
    return "Waits for a worker"


def so_far(run: Run) -> JSON | None:
    """What the finished steps of a run under way used and cost, and what budgets have `reserved`
    for the call that it makes; None once it is over."""
    return None if run.is_finished else _so_far(Q(run=run))


def under_way(thread: Thread) -> JSON | None:
    """The same of the runs of a thread that are not over; None if none is."""
    busy = Run.objects.filter(thread=thread, finished_at=None)
    return _so_far(Q(run__in=busy)) if busy.exists() else None


def _so_far(of_runs: Q) -> JSON:
    is_under_way = Q(status=StepStatus.RUNNING)
    used = Step.objects.filter(of_runs).aggregate(
        # Before the sums, which are called as what they are of.
        unpriced=Count("pk", filter=Q(cost=None, input_tokens__gt=0) & ~is_under_way),
        cost=Coalesce(Sum("cost"), Decimal(0)),
        input_tokens=Coalesce(Sum("input_tokens"), 0),
        output_tokens=Coalesce(Sum("output_tokens"), 0),
    )
    # Each budget holds as much for a call.
    calls = Step.objects.filter(of_runs, is_under_way)
    held = BudgetHold.objects.filter(step__in=calls).values("step").annotate(most=Max("amount"))
    return used | {"reserved": held.aggregate(all=Sum("most"))["all"]}


def failed_step(run: Run) -> Step | None:
    """Where a run failed: its last step."""
    if run.status != RunStatus.FAILED:
        return None
    return Step.objects.filter(run=run).defer("request", "response").order_by("-number").first()
