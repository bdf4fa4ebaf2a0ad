"""Lists of conversations, each with its last run."""

from django.db.models import OuterRef, Q, Subquery
from django.db.models.functions import Coalesce, Left

from runs.models import BUSY, FINISHED, Run
from teammates.access import Access
from threads.models import Message, Thread, ThreadQuerySet

MOST_STARRED = 50


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


def with_last(threads: ThreadQuerySet) -> ThreadQuerySet:
    """Beside each thread: the state of its last run, whether its result is still to be looked at,
    and the beginning of what was said last."""
    runs = Run.objects.filter(thread=OuterRef("pk")).order_by("-created_at", "-id")
    busy = runs.filter(status__in=BUSY).order_by()
    said = Message.objects.filter(thread=OuterRef("pk")).order_by("-id")
    unseen = Q(last_viewed_at=None) & Q(status__in=FINISHED)
    return threads.for_list().annotate(
        # What works or waits (one at most) comes before what is queued behind it.
        status=Coalesce(Subquery(busy.values("status")[:1]), Subquery(runs.values("status")[:1])),
        is_new=Subquery(runs.annotate(new=unseen).values("new")[:1]),
        words=Subquery(said.annotate(beginning=Left("content", 160)).values("beginning")[:1]),
    )
