"""Queries of the list of runs that people keep, for themselves or for everybody."""

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from runs.models import RunView
from teammates.access import Access
from teammates.errors import Conflict, Invalid, NotFound

MOST = 100  # of a person


def list_views(access: Access) -> QuerySet[RunView]:
    """The asker's own and those that colleagues share, by name."""
    views = RunView.objects.filter(organization=access.organization)
    return views.filter(Q(user=access.user) | Q(is_shared=True)).order_by("name", "id")


def save_view(access: Access, *, name: str, query: str, is_shared: bool = False) -> RunView:
    """Keep a query. Raises `Invalid`, `Conflict` for a name that is taken."""
    access.require("data.runs.read")
    name = " ".join(name.split())
    if not 1 <= len(name) <= 100 or len(query) > 1000 or access.user is None:
        raise Invalid("name must have 1 to 100 characters, the query at most 1000.")
    if RunView.objects.filter(organization=access.organization, user=access.user).count() >= MOST:
        raise Conflict(f"You keep {MOST} views already; delete some first.")
    try:
        with transaction.atomic():
            return RunView.objects.create(
                organization=access.organization,
                user=access.user,
                name=name,
                query=query,
                is_shared=is_shared and access.may("data.runs.write"),
            )
    except IntegrityError:
        raise Conflict(f"You keep a view named {name} already.") from None


def delete_view(access: Access, view_id: int) -> None:
    """Raises `NotFound`; a shared one is deleted by whoever made it."""
    mine = RunView.objects.filter(organization=access.organization, user=access.user, pk=view_id)
    if not mine.delete()[0]:
        raise NotFound("You keep no such view.")
