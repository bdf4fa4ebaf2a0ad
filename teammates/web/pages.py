"""What pages share: the request behind sign-in, its organization, numbers, and downloads."""

import csv
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any

from django import forms
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse

from teammates.access import Access, access_of_member
from teammates.access_cache import cache as access_cache
from teammates.errors import DomainError
from teammates.models import Organization, User
from teammates.trust import limits
from teammates.types import JSON

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


def page_of(request: HttpRequest, rows: "QuerySet[Any]", *order: str, size: int) -> Page:
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


# Arguments of verbs that a form calls otherwise.
CALLED = {"run_at": "at", "interval_seconds": "minutes", "allowed_senders": "senders"}


def add_refusal(form: forms.BaseForm, error: DomainError, *others: forms.BaseForm) -> None:
    """Show at the field that it names why something was refused, in the words of the form; what
    names none, or is only about other forms, on top of the first."""
    said = re.fullmatch(r"(\w+)(:?) (.+)", error.message, re.DOTALL)
    name = CALLED.get(said[1], said[1]) if said else ""
    named = next((one for one in (form, *others) if name in one.fields), None)
    if said is None or named is None:
        form.add_error(None, error.message)
        return
    label = named.fields[name].label or name.capitalize()
    named.add_error(name, said[3][:1].upper() + said[3][1:] if said[2] else f"{label} {said[3]}")


def _behind(rows: "QuerySet[Any]", after: int, order: tuple[str, ...]) -> Q:
    """What follows one of `rows` in `order`; of its number alone also where it is gone."""
    if order in (("id",), ("-id",)):
        return Q(pk__gt=after) if order == ("id",) else Q(pk__lt=after)
    last = rows.filter(pk=after).first()
    wanted, equal = Q(), JSON()
    for field in order if last else ():
        name, value = field.removeprefix("-"), getattr(last, field.removeprefix("-"))
        wanted |= Q(**equal, **{f"{name}__{'lt' if field != name else 'gt'}": value})
        equal[name] = value
    return wanted


def access_of_session(user: User, session: Any) -> Access | None:
    """A person's access to the organization that their browser works in, else to the first."""
    chosen = session.get(ORGANIZATION)
    access = access_cache.get(
        ("member", user.pk, chosen),
        lambda: (access_of_member(user, chosen) if chosen else None) or access_of_member(user),
    )
    return access and replace(access, user=user)


def choose_organization(request: HttpRequest, organization: Organization) -> None:
    request.session[ORGANIZATION] = str(organization.uid)


def count_export(access: Access) -> None:
    """Call before what is to be downloaded is gathered. Raises `TooMany`."""
    limits.take((limits.EXPORTS, limits.whoever(access)))


def text_download(text: str, *, kind: str, name: str) -> HttpResponse:
    return HttpResponse(
        text,
        content_type=f"{kind}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def csv_download(rows: Iterable[Iterable[Any]], *, name: str) -> HttpResponse:
    """Rows as CSV. What a spreadsheet would take for a formula begins with a quote."""
    written = StringIO()
    csv.writer(written).writerows([_harmless(value) for value in row] for row in rows)
    return text_download(written.getvalue(), kind="text/csv", name=name)


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
