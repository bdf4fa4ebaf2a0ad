"""Webhooks by which the outside starts a teammate or a task: their tokens and addresses.

A token is shown once, when it is made; only its hash is kept.
"""

import secrets
from typing import TypeVar

from teammates.errors import Unsuitable
from teammates.fields import hash_secret
from teammates.models import Reachable

R = TypeVar("R", bound=Reachable)
FIELDS = ("hook_hash", "hook_prefix", "hook_enabled")
SHOWN = 6  # characters of a token that later pages show


def make_token(row: R) -> str:
    """A new token for `row`; the old one stops working at once. The caller's verb saves it."""
    token = f"whk_{secrets.token_hex(24)}"
    row.hook_hash, row.hook_prefix, row.hook_enabled = hash_secret(token), token[:SHOWN], True
    return token


def pause(row: R, *, paused: bool) -> None:
    """Pause or resume the webhook. Raises `Unsuitable` where there is none."""
    if not paused and not row.hook_hash:
        raise Unsuitable("There is no webhook yet; create one first.", code="webhook_missing")
    row.hook_enabled = not paused


def remove(row: R) -> None:
    row.hook_hash, row.hook_prefix, row.hook_enabled = "", "", False


def path(kind: str, row_id: int, token: str) -> str:
    """Where the webhook of a row listens (contract v2 5.2); `kind` is tasks or mates."""
    return f"/api/v1/webhooks/{kind}/{row_id}/{token}"


def masked_path(kind: str, row_id: int, row: Reachable) -> str | None:
    """The same without what is secret of it; None if there is no webhook."""
    return path(kind, row_id, f"{row.hook_prefix}****") if row.hook_hash else None
