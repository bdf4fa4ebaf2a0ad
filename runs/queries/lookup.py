"""Finding runs: one, or a page of a list."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from config.compiled import Hole, compiled
from runs.models import ACTIVE, FINISHED, NEEDS_SOMEBODY, Gate, Run, RunFile
from runs.models.run_query import RunQuerySet
from teammates.access import Access
from teammates.errors import Forbidden, Invalid, NotFound
from teammates.models import Teammate
from teammates.scoped_query import scoped_query
from threads.models import File, Thread


@scoped_query
def _run_by_pk(access: Access, pk: Hole) -> RunQuerySet:
    return Run.objects.visible_to(access).for_detail().filter(pk=pk)


@scoped_query
def _run_by_uid(access: Access, uid: Hole) -> RunQuerySet:
    return Run.objects.visible_to(access).for_detail().filter(uid=uid)


@scoped_query
def _bare_run_by_pk(access: Access, pk: Hole) -> RunQuerySet:
    return Run.objects.visible_to(access).filter(pk=pk)


@scoped_query
def _bare_run_by_uid(access: Access, uid: Hole) -> RunQuerySet:
    return Run.objects.visible_to(access).filter(uid=uid)


_WHOLE = {"pk": _run_by_pk, "uid": _run_by_uid}
_BARE = {"pk": _bare_run_by_pk, "uid": _bare_run_by_uid}


def get_run(access: Access, *, bare: bool = False, **lookup: Any) -> Run:
    """One by its `pk` or `uid`. Raises `NotFound`; a colleague's run is `Forbidden`, which v2 and
    the pages show as 404.

    `bare`: without what it takes to show the run (a stream needs only to know that it may).
    """
    (found_by,) = lookup
    run = (_BARE if bare else _WHOLE)[found_by].first(access, **lookup)
    if run is not None:
        return run
    if _BARE[found_by].first(access.everything(), **lookup) is not None:
        raise Forbidden("This run is a colleague's.")
    raise NotFound("There is no such run.", code="runs.not_found")


@compiled
def _rows(run_ids: Hole) -> RunQuerySet:
    return Run.objects.for_rows().filter(pk__any=run_ids)


def page(runs: RunQuerySet, limit: int) -> list[Run]:
    """The first `limit` of `runs`, `for_rows`. Two queries: which, and what they show. In one,
    PostgreSQL joins the names of rows that a narrow filter then drops."""
    ids = list(runs.values_list("pk", flat=True)[:limit])
    found = {run.pk: run for run in _rows.all(run_ids=ids)}
    return [found[pk] for pk in ids if pk in found]


def awaiting_first(runs: RunQuerySet, last: Run | None, limit: int) -> list[Run]:
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


@dataclass(frozen=True)
class Sums:
    """How many runs a thread has, what they used and what that cost; None where no run has told."""

    runs: int = 0
    cost: Decimal | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    unpriced: int = 0


UNPRICED = Count("id", filter=Q(finished_at__isnull=False, cost=None))


def sums_of(thread: Thread) -> Sums:
    found = _sums.first(thread_id=thread.pk)
    return Sums(*found) if found else Sums()


@compiled
def _sums(
    thread_id: Hole,
) -> "QuerySet[Run, tuple[int, Decimal | None, int | None, int | None, int]]":
    of_thread = Run.objects.filter(thread=thread_id).order_by().values("thread")
    return of_thread.annotate(unpriced=UNPRICED).values_list(
        Count("id"), Sum("cost"), Sum("input_tokens"), Sum("output_tokens"), "unpriced"
    )


def counts_of(run: Run) -> dict[str, int]:
    """How much is behind each tab of the run's page. One query."""
    mine = {"run": OuterRef("pk")}

    def count(rows: Any) -> Coalesce:
        found = rows.filter(**mine).order_by().values("run").annotate(n=Count("pk")).values("n")
        return Coalesce(Subquery(found), 0)

    started = Run.objects.filter(started_by=OuterRef("pk")).order_by().values("started_by")
    row = (
        Run.objects.filter(pk=run.pk)
        .annotate(
            n_files=count(RunFile.objects),
            n_gates=count(Gate.objects),
            n_started=Coalesce(Subquery(started.annotate(n=Count("pk")).values("n")), 0),
        )
        .values("n_files", "n_gates", "n_started")
        .get()
    )
    return {
        "files": row["n_files"],
        "approvals": row["n_gates"],
        "events": run.last_seq,
        "attempts": run.lost_attempts + min(run.attempt, 1),
        "children": row["n_started"],
    }


def activity(access: Access, runs: RunQuerySet) -> dict[int, list[Run]]:
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


def page_before(access: Access, before: str, runs: RunQuerySet) -> RunQuerySet:
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
