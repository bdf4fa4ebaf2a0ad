"""Shapes that both APIs share."""

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

from django.conf import settings
from django.http import HttpRequest
from ninja import Schema
from pydantic import ConfigDict, Field

from teammates.access import Access
from teammates.types import JSON

if TYPE_CHECKING:
    from django.db.models import QuerySet

V = TypeVar("V", bound=Callable[..., Any])


class Input(Schema):
    """A body. Unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid")


class EnabledIn(Input):
    enabled: bool


def changes_of(payload: Input, wire: dict[str, str], cleared: JSON, *, without: set[str]) -> JSON:
    """What a body says, in our words: `wire` translates, `cleared` is what null stands for (a
    field that it does not name is left alone), `without` is no field of the thing."""
    changes: JSON = {}
    for said in payload.model_fields_set - without:
        value, name = getattr(payload, said), wire.get(said, said)
        if value is None:
            if name not in cleared:
                continue
            value = cleared[name]
        changes[name] = value
    return changes


class ApiRequest(HttpRequest):
    """A request that passed authentication."""

    auth: Access
    trace_id: str


class HasId(Protocol):
    id: Any


Limit = Annotated[int, Field(ge=1, le=100)]


def paged(
    rows: "QuerySet[Any]", limit: int, starting_after: int | None, show: Callable[[Any], Any]
) -> JSON:
    """A page of `rows`, newest first, behind the row `starting_after` (contract v2 1.4)."""
    if starting_after is not None:
        rows = rows.filter(pk__lt=starting_after)
    found = list(rows[: limit + 1])
    return page(found, limit, [show(row) for row in found[:limit]])


def whole(shown: list[Any]) -> JSON:
    """The envelope of a list that is not paged."""
    return {"data": shown, "has_more": False, "next_starting_after": None}


def address_of(request: HttpRequest) -> str:
    """Where clients reach this installation, without a slash at the end."""
    return settings.PUBLIC_URL or f"{request.scheme}://{request.get_host()}"


def page(rows: list[Any], limit: int, shown: list[Any]) -> JSON:
    """v2's envelope of a list (contract v2 1.4); `rows` has one more than `limit` if more follow"""
    more = len(rows) > limit
    return {
        "data": shown[:limit],
        "has_more": more,
        "next_starting_after": rows[limit - 1].pk if more else None,
    }


def money(value: Decimal | int) -> str:
    """US dollars without zeros at the end; nothing is exactly "0"."""
    return f"{Decimal(value).normalize():f}"


def iso(value: Any) -> str | None:
    """UTC, ending in Z; null stays null."""
    return None if value is None else value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def takes_any_query(operation: V) -> V:
    """For what strangers call: query parameters that it does not know are no mistake."""
    operation.takes_any_query = True  # type: ignore[attr-defined]
    return operation
