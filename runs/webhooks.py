"""Outgoing webhooks: where events of runs are sent."""

import ipaddress
import secrets
from typing import Any
from urllib.parse import urlsplit

from runs.models import WebhookEndpoint
from teammates.access import Access
from teammates.errors import Conflict, Invalid, NotFound
from teammates.public_http import is_public

EVENTS = (
    "run.started", "run.completed", "run.failed", "run.cancelled", "run.awaiting_input",
    "run.message_received", "run.message_cancelled", "balance.low", "balance.critical",
    "balance.depleted",
)  # fmt: skip
DEFAULT_EVENTS = ["run.completed", "run.failed", "run.cancelled"]
MOST_ENDPOINTS = 50  # of a scope
LOCAL_ENDINGS = (".internal", ".local", ".localhost", ".home.arpa")


def add_endpoint(access: Access, *, url: str, events: list[str] | None = None) -> WebhookEndpoint:
    """An endpoint for the scope of `access`, with a secret of its own.

    Raises `Invalid`, `Conflict` (too many).
    """
    access.require("data.webhooks.manage")
    if WebhookEndpoint.objects.visible_to(access).count() >= MOST_ENDPOINTS:
        raise Conflict(f"A scope has at most {MOST_ENDPOINTS} webhooks.", code="webhooks.capacity")
    return WebhookEndpoint.objects.create(
        organization=access.organization, end_user=access.end_user, url=_checked_url(url),
        events=_checked_events(DEFAULT_EVENTS if events is None else events), secret=_new_secret(),
    )  # fmt: skip


def update_endpoint(
    access: Access,
    endpoint: WebhookEndpoint,
    *,
    url: str | None = None,
    events: list[str] | None = None,
    active: bool | None = None,
    rotate_secret: bool = False,
) -> WebhookEndpoint:
    """Change what is given. Raises `Invalid`."""
    access.require("data.webhooks.manage")
    if url is not None:
        endpoint.url = _checked_url(url)
    if events is not None:
        endpoint.events = _checked_events(events)
    if active is not None:
        endpoint.active = active
    if rotate_secret:
        endpoint.secret = _new_secret()
    endpoint.save()
    return endpoint


def delete_endpoint(access: Access, endpoint: WebhookEndpoint) -> None:
    """The endpoint and the record of what was sent to it."""
    access.require("data.webhooks.manage")
    endpoint.delete()


def get_endpoint(access: Access, endpoint_id: int) -> WebhookEndpoint:
    """Raises `NotFound`."""
    found: WebhookEndpoint | None = list_endpoints(access).filter(pk=endpoint_id).first()
    if found is None:
        raise NotFound("There is no such webhook.", code="webhooks.not_found")
    return found


def list_endpoints(access: Access) -> Any:
    """Of exactly one scope, newest first."""
    access.require("data.webhooks.manage")
    rows = WebhookEndpoint.objects.visible_to(access)
    return rows.select_related("end_user").order_by("-id")


def _new_secret() -> str:
    return secrets.token_hex(32)


def _checked_events(events: list[str]) -> list[str]:
    if unknown := sorted(set(events) - set(EVENTS)):
        raise Invalid(f"events: there is no {', '.join(unknown)}; there are {', '.join(EVENTS)}.")
    return list(dict.fromkeys(events))


def _checked_url(url: str) -> str:
    """Literal hosts are checked here; names are resolved and checked when something is sent."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").lower()
        _ = parts.port
    except ValueError:
        raise Invalid("url is not a URL.") from None
    if parts.scheme != "https" or not host or len(url) > 2000:
        raise Invalid("url must begin with https:// and have at most 2000 characters.")
    if parts.username or parts.password:
        raise Invalid("url must not hold a user name or a password.")
    if not _may_be_public(host):
        raise Invalid(f"url: {host} is not on the public internet.")
    return url


def _may_be_public(host: str) -> bool:
    try:
        return is_public(str(ipaddress.ip_address(host)))
    except ValueError:
        # A name, or a number in another guise, as 2130706433 or 0x7f.1.
        is_name = "." in host and not host.rpartition(".")[2].removeprefix("0x").isdigit()
        return is_name and not f".{host}".endswith(LOCAL_ENDINGS)
