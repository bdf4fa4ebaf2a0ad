"""Finding runs: one, or a page of a list."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Count, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Left
from django.utils import timezone

from runs.lifecycle import workers
from runs.models import (
    ACTIVE,
    BUSY,
    FINISHED,
    NEEDS_SOMEBODY,
    Gate,
    GateStatus,
    Run,
    RunFile,
    RunStatus,
    Step,
    StepKind,
    StepStatus,
)
from teammates.access import Access
from teammates.errors import Forbidden, Invalid, NotFound
from teammates.models import Teammate
from threads.models import File, Message, Thread

MOST_STARRED = 50


def get_run(access: Access, *, bare: bool = False, **lookup: Any) -> Run:
    """Raises `NotFound`; a colleague's run is `Forbidden`, which v2 and the pages show as 404.

    `bare`: without what it takes to show the run (a stream needs only to know that it may).
    """
    runs = Run.objects.visible_to(access)
    if not bare:
        runs = runs.with_outcome()
    run = runs.filter(**lookup).first()
    if run is not None:
        return run
    if Run.objects.visible_to(access.everything()).filter(**lookup).exists():
        raise Forbidden("This run is a colleague's.")
    raise NotFound("There is no such run.", code="runs.not_found")


def awaiting_first(runs: Any, last: Run | None, limit: int) -> list[Run]:
    """Up to `limit` runs behind `last`: those that need somebody, then the rest, newest first.

    Two queries, each on its index."""
    found: list[Run] = []
    if last is None or last.needs_somebody:
        first = runs.filter(NEEDS_SOMEBODY).newest_first()
        found = list((first.older_than(last) if last else first)[:limit])
        last = None
    if len(found) < limit:
        rest = runs.exclude(NEEDS_SOMEBODY).newest_first()
        found += (rest.older_than(last) if last else rest)[: limit - len(found)]
    return found


def threads_of(access: Access, *, after: Thread | None = None, limit: int) -> list[Thread]:
    """The asker's own threads, newest first, each with `status`, `words` and `is_new` of its last
    run and message. One query."""
    threads = Thread.objects.visible_to(access).listed().filter(created_by=access.user)
    if after is not None:
        threads = threads.filter(updated_at__lte=after.updated_at).exclude(
            updated_at=after.updated_at, pk__gte=after.pk
        )
    return list(with_last(threads).order_by("-updated_at", "-id")[:limit])


def starred_threads(access: Access) -> list[Thread]:
    threads = Thread.objects.visible_to(access).listed().filter(created_by=access.user)
    return list(with_last(threads.exclude(starred_at=None)).order_by("-starred_at")[:MOST_STARRED])


def with_last(threads: Any) -> Any:
    """Beside each thread: the state of its last run, whether its result is still to be looked at,
    and the beginning of what was said last."""
    runs = Run.objects.filter(thread=OuterRef("pk")).order_by("-created_at", "-id")
    busy = runs.filter(status__in=BUSY).order_by()
    said = Message.objects.filter(thread=OuterRef("pk")).order_by("-id")
    unseen = Q(last_viewed_at=None) & Q(status__in=FINISHED)
    return threads.with_names().annotate(
        # What works or waits (one at most) comes before what is queued behind it.
        status=Coalesce(
            Subquery(busy.values("status")[:1]), Subquery(runs.values("status")[:1])
        ),
        is_new=Subquery(runs.annotate(new=unseen).values("new")[:1]),
        words=Subquery(said.annotate(beginning=Left("content", 160)).values("beginning")[:1]),
    )  # fmt: skip


def sums_of(thread: Thread) -> dict[str, Any]:
    """How many runs a thread has, what they used and what that cost."""
    return Run.objects.filter(thread=thread).aggregate(
        runs=Count("id"), cost=Sum("cost"), input_tokens=Sum("input_tokens"),
        output_tokens=Sum("output_tokens"),
    )  # fmt: skip


@dataclass(frozen=True)
class ContextUse:
    """How much of what a model can read the last call of a thread took."""

    used: int
    size: int


def context_use(thread: Thread) -> ContextUse | None:
    """Of the newest model call that is over; None if there was none yet."""
    step = (
        Step.objects.filter(run__thread=thread, kind=StepKind.MODEL, status=StepStatus.DONE)
        .select_related("run__route").only("input_tokens", "output_tokens", "run__route")
        .order_by("-id").first()
    )  # fmt: skip
    if step is None or step.run.route is None:
        return None
    size = step.run.route.context_window
    return ContextUse(step.input_tokens + step.output_tokens, size)


# --- one run, as its page shows it --------------------------------------------------------------


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


def so_far(run: Run) -> dict[str, Any] | None:
    """What the finished steps of a run under way used and cost; None once it is over."""
    if run.is_finished:
        return None
    return run.steps.aggregate(
        cost=Coalesce(Sum("cost"), Decimal(0)), input_tokens=Coalesce(Sum("input_tokens"), 0),
        output_tokens=Coalesce(Sum("output_tokens"), 0),
    )  # fmt: skip


def failed_step(run: Run) -> Step | None:
    """Where a run failed: its last step."""
    if run.status != RunStatus.FAILED:
        return None
    return Step.objects.filter(run=run).defer("request", "response").order_by("-number").first()


def counts_of(run: Run) -> dict[str, int]:
    """How much is behind each tab of the run's page. One query."""
    mine = {"run": OuterRef("pk")}

    def count(rows: Any) -> Coalesce:
        found = rows.filter(**mine).order_by().values("run").annotate(n=Count("pk")).values("n")
        return Coalesce(Subquery(found), 0)

    started = Run.objects.filter(started_by=OuterRef("pk")).order_by().values("started_by")
    row = Run.objects.filter(pk=run.pk).annotate(
        n_files=count(RunFile.objects), n_gates=count(Gate.objects),
        n_started=Coalesce(Subquery(started.annotate(n=Count("pk")).values("n")), 0),
    ).values("n_files", "n_gates", "n_started").get()  # fmt: skip
    return {
        "files": row["n_files"], "approvals": row["n_gates"], "events": run.last_seq,
        "attempts": run.lost_attempts + min(run.attempt, 1), "children": row["n_started"],
    }  # fmt: skip


# --- what teammates do --------------------------------------------------------------------------


def activity(access: Access, runs: Any) -> dict[int, list[Run]]:
    """Of each teammate that the asker sees: what is under way, and what ended last. Two queries."""
    ended = runs.filter(teammate=OuterRef("pk"), status__in=FINISHED).newest_first()
    teammates = Teammate.objects.visible_to(access).current()
    newest = teammates.annotate(ended=Subquery(ended.values("pk")[:1])).values_list("ended")
    shown = runs.filter(Q(status__in=ACTIVE) | Q(pk__in=newest)).filter(
        teammate__in=teammates.values("pk")
    )
    by_teammate: dict[int, list[Run]] = {}
    for run in shown.newest_first():
        by_teammate.setdefault(run.teammate_id, []).append(run)
    return by_teammate


def page_before(access: Access, before: str, runs: Any) -> Any:
    """`runs` behind a v1 cursor: a run's id, an instant, or the `X-Next-Cursor` of a page.

    Raises `Invalid` for anything else.
    """
    try:
        last = Run.objects.visible_to(access).filter(uid=UUID(before)).first()
    except ValueError:
        try:
            # A plus sign of an offset arrives as a space.
            return runs.filter(created_at__lt=_aware(before.replace(" ", "+")))
        except ValueError:
            raise Invalid("before must be a run's id, an instant, or X-Next-Cursor.") from None
    if last is None:
        raise Invalid("before: there is no such run.")
    return runs.older_than(last)


def _aware(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("an instant has an offset")
    return at


def files_of(run: Run) -> list[File]:
    """The newest version of each file that the run wrote, or that came with it, by name."""
    written = RunFile.objects.filter(run=run).select_related("file")
    rows = written.order_by("file__name", "-file__version").distinct("file__name")
    return [row.file for row in rows]


def file_of(run: Run, name: str) -> File:
    """Raises `NotFound`."""
    found = next((file for file in files_of(run) if file.name == name), None)
    if found is None:
        raise NotFound("The run has no such file.", code="files.not_found")
    return found
