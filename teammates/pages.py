"""What pages share: the request behind sign-in, and the mark of those before it."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest

from teammates.access import Access


class PageRequest(HttpRequest):
    """A request of a signed-in person."""

    access: Access
    trace_id: str


def public(view: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a page that needs no sign-in; `tests/test_urls.py` lists them by name."""
    view.is_public = True  # type: ignore[attr-defined]
    return view
