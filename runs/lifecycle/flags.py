"""Flags on runs that are over: archived, viewed."""

from django.utils import timezone

from runs.models import Run
from teammates.access import Access
from threads.models import Thread


def set_archived(access: Access, run: Run, *, archived: bool) -> Run:
    """Take a run out of the lists, or back into them; again is fine. Raises `Forbidden`."""
    access.require("data.runs.write", run)
    rows = Run.objects.filter(pk=run.pk, archived_at__isnull=archived)
    at = timezone.now()
    rows.update(archived_at=at if archived else None, updated_at=at)
    run.refresh_from_db(fields=["archived_at", "updated_at"])
    return run


def mark_viewed(access: Access, run: Run) -> Run:
    """Mark the run as viewed by whoever started it: a result that was seen is not mailed. A view
    by a colleague changes nothing."""
    if run.created_by_id is not None and run.created_by != access.user:
        return run
    Run.objects.filter(pk=run.pk).update(last_viewed_at=timezone.now())
    run.refresh_from_db(fields=["last_viewed_at"])
    return run


def mark_thread_viewed(access: Access, thread: Thread) -> None:
    """Mark the finished runs of a thread as viewed by whoever began it."""
    if thread.created_by != access.user:
        return
    unseen = Run.objects.filter(thread=thread, last_viewed_at=None)
    unseen.exclude(finished_at=None).update(last_viewed_at=timezone.now())
