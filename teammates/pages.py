"""What pages share: the request behind sign-in, its organization, numbers, and downloads."""

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import StringIO
from typing import Any

from django.db.models import Q
from django.http import HttpRequest, HttpResponse

from teammates.access import Access, access_of_member
from teammates.models import Organization, User

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a cell of a spreadsheet begins with to be one
ORGANIZATION = "organization"  # in the session: the uid of the one that was chosen


class PageRequest(HttpRequest):
    """A request of a signed-in person."""

    access: Access
    trace_id: str


def public(view: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a page that needs no sign-in; `tests/test_urls.py` lists them by name."""
    view.is_public = True  # type: ignore[attr-defined]
    return view


def number_of(text: str) -> int | None:
    """The number that a query or a form names: an id, a version. None for anything else, and for
    what no row can have."""
    is_number = text.isascii() and text.isdecimal() and len(text) < 19
    return int(text) if is_number else None


def numbers_of(texts: Iterable[str]) -> list[int]:
    return [number for text in texts if (number := number_of(text)) is not None]


@dataclass(frozen=True)
class Page:
    """Some rows of a list, and the queries of its first page and of the next one."""

    rows: list[Any]
    newest: str | None
    older: str | None


def page_of(request: HttpRequest, rows: Any, *order: str, size: int) -> Page:
    """`size` rows behind the one that `?after=` names, in `order`: never null, and unique as a
    whole. The links keep the rest of the query."""
    after = number_of(request.GET.get("after", ""))
    if after is not None:
        rows = rows.filter(_behind(rows, after, order))
    found = list(rows.order_by(*order)[: size + 1])
    keep = request.GET.copy()
    keep.pop("after", None)
    newest = f"?{keep.urlencode()}" if after is not None else None
    older = None
    if len(found) > size:
        keep["after"] = str(found[size - 1].pk)
        older = f"?{keep.urlencode()}"
    return Page(found[:size], newest, older)


def _behind(rows: Any, after: int, order: tuple[str, ...]) -> Q:
    """What follows one of `rows` in `order`; of its number alone also where it is gone."""
    if order in (("id",), ("-id",)):
        return Q(pk__gt=after) if order == ("id",) else Q(pk__lt=after)
    last = rows.filter(pk=after).first()
    wanted, equal = Q(), dict[str, Any]()
    for field in order if last else ():
        name, value = field.removeprefix("-"), getattr(last, field.removeprefix("-"))
        wanted |= Q(**equal, **{f"{name}__{'lt' if field != name else 'gt'}": value})
        equal[name] = value
    return wanted


def access_of_session(user: User, session: Any) -> Access | None:
    """A person's access to the organization that their browser works in, else to the first."""
    chosen = session.get(ORGANIZATION)
    return (access_of_member(user, chosen) if chosen else None) or access_of_member(user)


def choose_organization(request: HttpRequest, organization: Organization) -> None:
    request.session[ORGANIZATION] = str(organization.uid)


def text_download(text: str, *, kind: str, name: str) -> HttpResponse:
    return HttpResponse(
        text, content_type=f"{kind}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )  # fmt: skip


def csv_download(rows: Iterable[Iterable[Any]], *, name: str) -> HttpResponse:
    """Rows as CSV. What a spreadsheet would take for a formula begins with a quote."""
    written = StringIO()
    csv.writer(written).writerows([_harmless(value) for value in row] for row in rows)
    return text_download(written.getvalue(), kind="text/csv", name=name)


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
