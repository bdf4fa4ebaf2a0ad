"""Lists of somebody's own conversations, each with the state of its last run."""

from datetime import UTC, datetime

from django.db.models import OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Left

from config.compiled import Hole
from runs.models import BUSY, FINISHED, Run
from teammates.access import Access
from teammates.scoped_query import scoped_query
from threads.models import Message, Thread, ThreadQuerySet

PAGE_SIZE = 60
MOST_BESIDE = 30
MOST_STARRED = 50
LATEST = datetime(9999, 1, 1, tzinfo=UTC)


def page(access: Access, after: Thread | None = None) -> tuple[list[Thread], bool]:
    """The person's own threads behind `after`, newest first, with `status`, `is_new` and `words`;
    whether there are more."""
    found = _page.all(
        access.own(),
        until=after.updated_at if after else LATEST,
        below=after.pk if after else 0,
    )
    return found[:PAGE_SIZE], len(found) > PAGE_SIZE


def newest(access: Access) -> list[Thread]:
    """The person's newest threads, for the list beside a conversation: with `status`, `is_new`."""
    return _newest.all(access.own())


def starred(access: Access) -> list[Thread]:
    """The person's starred threads, as those of a `page`."""
    return _starred.all(access.own())


def _with_state(threads: ThreadQuerySet) -> ThreadQuerySet:
    """Beside each thread the state of its last run, and whether its result is still to be looked
    at."""
    runs = Run.objects.filter(thread=OuterRef("pk")).order_by("-created_at", "-id")
    busy = runs.filter(status__in=BUSY).order_by()
    unseen = Q(last_viewed_at=None) & Q(status__in=FINISHED)
    return threads.annotate(
        # What works or waits (one at most) comes before what is queued behind it.
        status=Coalesce(Subquery(busy.values("status")[:1]), Subquery(runs.values("status")[:1])),
        is_new=Subquery(runs.annotate(new=unseen).values("new")[:1]),
    )


def _with_words(threads: ThreadQuerySet) -> ThreadQuerySet:
    """`_with_state`, with the beginning of what was said last, and what is known of the cost of its
    runs that ended."""
    said = Message.objects.filter(thread=OuterRef("pk")).order_by("-id")
    words = said.annotate(beginning=Left("content", 160)).values("beginning")
    runs = Run.objects.filter(thread=OuterRef("pk")).order_by().values("thread")
    return (
        _with_state(threads)
        .for_list()
        .annotate(
            words=Subquery(words[:1]),
            cost=Subquery(runs.annotate(n=Sum("cost")).values("n")),
        )
    )


@scoped_query
def _page(access: Access, until: Hole, below: Hole) -> ThreadQuerySet:
    threads = Thread.objects.visible_to(access).listed().filter(updated_at__lte=until)
    behind = threads.exclude(updated_at=until, pk__gte=below)
    return _with_words(behind).order_by("-updated_at", "-id")[: PAGE_SIZE + 1]


@scoped_query
def _newest(access: Access) -> ThreadQuerySet:
    threads = _with_state(Thread.objects.visible_to(access).listed())
    return threads.order_by("-updated_at", "-id")[:MOST_BESIDE]


@scoped_query
def _starred(access: Access) -> ThreadQuerySet:
    threads = Thread.objects.visible_to(access).listed().exclude(starred_at=None)
    return _with_words(threads).order_by("-starred_at")[:MOST_STARRED]
