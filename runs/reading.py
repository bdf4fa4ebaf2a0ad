"""Finding runs: one, or a page of a list."""

from datetime import datetime
from typing import Any
from uuid import UUID

from runs.models import Run, RunFile, RunStatus
from teammates.access import Access
from teammates.errors import Forbidden, Invalid, NotFound
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
        runs = runs.with_names().select_related("answer", "route")
    run = runs.filter(**lookup).first()
    if run is not None:
        return run
    if Run.objects.visible_to(access.everything()).filter(**lookup).exists():
        raise Forbidden("This run is a colleague's.")
    raise NotFound("There is no such run.", code="runs.not_found")


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
    """The newest version of each file that the run wrote, by name."""
    written = RunFile.objects.filter(run=run).select_related("file")
    rows = written.order_by("file__name", "-file__version").distinct("file__name")
    return [row.file for row in rows]


def file_of(run: Run, name: str) -> File:
    """Raises `NotFound`."""
    found = next((file for file in files_of(run) if file.name == name), None)
    if found is None:
        raise NotFound("The run has no such file.", code="files.not_found")
    return found
