"""What pages share: the request behind sign-in, its organization, and the mark of those before."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest

from teammates.access import Access, access_of_member
from teammates.models import Organization, User

ORGANIZATION = "organization"  # in the session: the uid of the one that was chosen


class PageRequest(HttpRequest):
    """A request of a signed-in person."""

    access: Access
    trace_id: str


def public(view: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a page that needs no sign-in; `tests/test_urls.py` lists them by name."""
    view.is_public = True  # type: ignore[attr-defined]
    return view


def access_of_session(user: User, session: Any) -> Access | None:
    """A person's access to the organization that their browser works in, else to the first."""
    chosen = session.get(ORGANIZATION)
    return (access_of_member(user, chosen) if chosen else None) or access_of_member(user)


def choose_organization(request: HttpRequest, organization: Organization) -> None:
    request.session[ORGANIZATION] = str(organization.uid)
