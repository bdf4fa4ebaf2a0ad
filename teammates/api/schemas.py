"""Shapes that both APIs share."""

from typing import Any, Protocol

from django.http import HttpRequest
from ninja import Schema
from pydantic import ConfigDict

from teammates.access import Access


class Input(Schema):
    """A body. Unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid")


class ApiRequest(HttpRequest):
    """A request that passed authentication."""

    auth: Access
    trace_id: str


class HasId(Protocol):
    id: Any


def page(rows: list[Any], limit: int, shown: list[Any]) -> dict[str, Any]:
    """v2's envelope of a list (contract v2 1.4); `rows` has one more than `limit` if more follow"""
    more = len(rows) > limit
    return {
        "data": shown[:limit],
        "has_more": more,
        "next_starting_after": rows[limit - 1].pk if more else None,
    }


def iso(value: Any) -> str | None:
    """UTC, ending in Z; null stays null."""
    return None if value is None else value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
