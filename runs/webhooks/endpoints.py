"""Outgoing webhooks: where events of runs are sent, and what people do about deliveries."""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from runs.models import DeliveryStatus, Dialect, WebhookDelivery, WebhookEndpoint
from runs.webhooks import outbox, payloads
from teammates.access import Access
from teammates.errors import Conflict, Invalid, NotFound, Unsuitable
from teammates.fields import new_uid
from teammates.public_http import check_url
from teammates.trust import audit

DEFAULT_EVENTS = ["run.completed", "run.failed", "run.cancelled"]
MOST_ENDPOINTS = 50  # of a scope
LONGEST_DESCRIPTION = 200
OLD_SECRET_LIFE = timedelta(hours=24)


@audit.recorded("webhook.create")
def add_endpoint(
    access: Access,
    *,
    url: str,
    events: list[str] | None = None,
    dialect: str = Dialect.TEAMMATES,
    description: str = "",
) -> WebhookEndpoint:
    """An endpoint for the scope of `access`, with a secret of its own.

    Raises `Invalid`, `Conflict` (too many).
    """
    access.require("data.webhooks.manage")
    access.require_confirmed()
    if list_endpoints(access).count() >= MOST_ENDPOINTS:
        raise Conflict(f"A scope has at most {MOST_ENDPOINTS} webhooks.", code="webhooks.capacity")
    return WebhookEndpoint.objects.create(
        organization=access.organization,
        end_user=access.end_user,
        url=_checked_url(url, dialect),
        events=_checked_events(DEFAULT_EVENTS if events is None else events),
        secret=_new_secret(),
        dialect=dialect,
        description=_checked_description(description),
    )


@audit.recorded("webhook.update")
def update_endpoint(
    access: Access,
    endpoint: WebhookEndpoint,
    *,
    url: str | None = None,
    events: list[str] | None = None,
    active: bool | None = None,
    description: str | None = None,
    rotate_secret: bool = False,
) -> WebhookEndpoint:
    """Change what is given. After `rotate_secret` the old secret is good for `OLD_SECRET_LIFE`.

    Raises `Invalid`.
    """
    access.require("data.webhooks.manage", endpoint)
    with transaction.atomic():
        locked = WebhookEndpoint.objects.select_for_update(of=("self",), no_key=True)
        endpoint = locked.select_related("end_user", "organization").get(pk=endpoint.pk)
        if url is not None:
            url = _checked_url(url, endpoint.dialect)
            if url != endpoint.url:
                endpoint.url, endpoint.failing_since = url, None
        if events is not None:
            endpoint.events = _checked_events(events)
        if description is not None:
            endpoint.description = _checked_description(description)
        if active is not None:
            if active and not endpoint.active:
                endpoint.failing_since = None
                waiting = endpoint.deliveries.filter(status=DeliveryStatus.PENDING)
                waiting.update(next_retry_at=timezone.now())
            endpoint.active, endpoint.rests_because = active, ""
        if rotate_secret:
            endpoint.old_secret = endpoint.secret
            endpoint.old_secret_until = timezone.now() + OLD_SECRET_LIFE
            endpoint.secret = _new_secret()
        endpoint.save()
        outbox.notify_sender()
    return endpoint


@audit.recorded("webhook.delete")
def delete_endpoint(access: Access, endpoint: WebhookEndpoint) -> None:
    """The endpoint and, a while later, the record of what was sent to it; again is fine."""
    access.require("data.webhooks.manage", endpoint)
    here = WebhookEndpoint.objects.current().filter(pk=endpoint.pk)
    here.update(deleted_at=timezone.now(), active=False, secret="", old_secret="")


def get_endpoint(access: Access, *, every_scope: bool = False, **lookup: Any) -> WebhookEndpoint:
    """Raises `NotFound`."""
    rows = list_endpoints(access, every_scope=every_scope)
    found: WebhookEndpoint | None = rows.filter(**lookup).first()
    if found is None:
        raise NotFound("There is no such webhook.", code="webhooks.not_found")
    return found


def list_endpoints(access: Access, *, every_scope: bool = False) -> Any:
    """Of exactly one scope, newest first; or of all."""
    access.require("data.webhooks.manage")
    rows = WebhookEndpoint.objects.visible_to(access)
    if every_scope:
        rows = WebhookEndpoint.objects.filter(organization=access.organization)
    return rows.current().select_related("end_user", "organization").order_by("-id")


@dataclass(frozen=True)
class EndpointHealth:
    """How an endpoint's deliveries of the last day went."""

    sent: int = 0
    failed: int = 0
    waiting: int = 0
    p95_ms: int | None = None

    @property
    def success(self) -> float | None:
        over = self.sent + self.failed
        return self.sent / over if over else None


_HEALTH = """
SELECT endpoint_id, count(*) FILTER (WHERE status = 'success'),
    count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE status = 'pending'),
    percentile_disc(0.95) WITHIN GROUP (ORDER BY took_ms) FILTER (WHERE status = 'success')
FROM runs_webhookdelivery
WHERE endpoint_id = ANY(%s) AND created_at > %s AND run_id IS NOT NULL GROUP BY 1
"""


def health_of(endpoints: list[WebhookEndpoint]) -> dict[int, EndpointHealth]:
    """Of the last 24 hours, by endpoint, without tests. One query."""
    since = timezone.now() - timedelta(hours=24)
    with connection.cursor() as cursor:
        cursor.execute(_HEALTH, [[one.pk for one in endpoints], since])
        return {row[0]: EndpointHealth(*row[1:]) for row in cursor.fetchall()}


def send_test(access: Access, endpoint: WebhookEndpoint) -> WebhookDelivery:
    """Send a sample now, also to a paused endpoint; it is tried once."""
    access.require("data.webhooks.manage", endpoint)
    event_id = f"evt_{new_uid().hex}"
    with transaction.atomic():
        made = WebhookDelivery.objects.create(
            endpoint=endpoint,
            event_type=outbox.TEST,
            event_id=event_id,
            body=payloads.body_of(endpoint, outbox.TEST, event_id, None),
            next_retry_at=timezone.now(),
        )
        outbox.notify_sender()
    return made


def require_awake(access: Access, endpoint: WebhookEndpoint) -> None:
    access.require("data.webhooks.manage", endpoint)
    if not endpoint.active:
        raise Unsuitable("The webhook is paused; resume it first.", code="webhook_paused")


def _new_secret() -> str:
    return secrets.token_hex(32)


def _checked_events(events: list[str]) -> list[str]:
    if unknown := sorted(set(events) - set(outbox.EVENTS)):
        raise Invalid(
            f"events: there is no {', '.join(unknown)}; there are {', '.join(outbox.EVENTS)}."
        )
    return list(dict.fromkeys(events))


def _checked_description(description: str) -> str:
    if len(description) > LONGEST_DESCRIPTION:
        raise Invalid(f"description must have at most {LONGEST_DESCRIPTION} characters.")
    return description.strip()


def _checked_url(url: str, dialect: str) -> str:
    private = settings.ALLOW_PRIVATE_ADDRESSES
    schemes = ["https", "http"] if private or dialect == Dialect.THREADS else ["https"]
    check_url(url.strip(), may_be_private=private, schemes=schemes)
    return url.strip()
