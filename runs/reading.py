"""Finding runs: one, or a page of a list."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Q, Subquery

from runs.models import ACTIVE, FINISHED, NEEDS_SOMEBODY, Run, RunFile, RunStatus
from teammates.access import Access
from teammates.errors import Forbidden, Invalid, NotFound
from teammates.models import Teammate
from threads.models import File

# The words of the wire and the states they mean (design 5).
V1_FILTER = {
    "running": [RunStatus.QUEUED, RunStatus.RUNNING],
    "waiting_for_input": [RunStatus.WAITING],
    "paused": [RunStatus.PAUSED],
    "completed": [RunStatus.COMPLETED],
    "failed": [RunStatus.FAILED],
    "cancelled": [RunStatus.CANCELLED, RunStatus.CLOSED],
}
V2_FILTER = {
    "running": [RunStatus.QUEUED, RunStatus.RUNNING],
    "awaiting_approval": [RunStatus.WAITING],
    "paused": [RunStatus.PAUSED],
    "completed": [RunStatus.COMPLETED],
    "failed": [RunStatus.FAILED],
    "cancelled": [RunStatus.CANCELLED],
    "closed": [RunStatus.CLOSED],
}
V1_STATUS = {status: word for word, states in V1_FILTER.items() for status in states}
V2_STATUS = {status: word for word, states in V2_FILTER.items() for status in states}


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
        last = Run.objects.filter(organization=access.organization, uid=UUID(before)).first()
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
