"""What people do about deliveries: looked at, sent again, skipped."""

from datetime import datetime

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from runs.models import DeliveryStatus, WebhookDelivery, WebhookEndpoint
from runs.webhooks import outbox
from runs.webhooks.endpoints import require_awake
from teammates.access import Access
from teammates.errors import NotFound, Unsuitable

RESENT_EVERY = 0.2  # seconds


def with_order(rows: QuerySet[WebhookDelivery]) -> QuerySet[WebhookDelivery]:
    """`is_behind`: whether an earlier one of its run has to go first."""
    earlier = WebhookDelivery.objects.filter(
        endpoint=OuterRef("endpoint"),
        run=OuterRef("run"),
        pk__lt=OuterRef("pk"),
        status=DeliveryStatus.PENDING,
    )
    return rows.annotate(is_behind=Exists(earlier))


def get_delivery(endpoint: WebhookEndpoint, delivery_id: int) -> WebhookDelivery:
    """Raises `NotFound`."""
    rows = with_order(endpoint.deliveries.filter(pk=delivery_id))
    found = rows.select_related("endpoint").first()
    if found is None:
        raise NotFound("There is no such delivery.", code="deliveries.not_found")
    return found


def resend(access: Access, delivery: WebhookDelivery) -> None:
    """Send a delivery again, under the same event id, with all its tries; one that is still to be
    sent goes now. Raises `Unsuitable` for a paused endpoint."""
    require_awake(access, delivery.endpoint)
    if not delivery.body:
        raise Unsuitable("What it said was erased, so it cannot be sent again.")
    with transaction.atomic():
        WebhookDelivery.objects.filter(pk=delivery.pk).update(
            status=DeliveryStatus.PENDING, tries=0, next_retry_at=timezone.now()
        )
        outbox.notify_sender()


_RESEND = """
WITH locked AS (
    SELECT id FROM runs_webhookdelivery
    WHERE endpoint_id = %s AND status = 'failed' AND run_id IS NOT NULL AND body <> ''
      AND created_at >= %s
    ORDER BY id FOR NO KEY UPDATE
), failed AS (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM locked)
UPDATE runs_webhookdelivery d SET status = 'pending', tries = 0,
    next_retry_at = statement_timestamp() + failed.n * make_interval(secs => %s)
FROM failed WHERE d.id = failed.id
"""


def resend_failed(access: Access, endpoint: WebhookEndpoint, *, since: datetime) -> int:
    """Send everything again that was given up since then, `RESENT_EVERY` seconds apart; how many.

    Raises `Unsuitable` for a paused endpoint.
    """
    require_awake(access, endpoint)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_RESEND, [endpoint.pk, since, RESENT_EVERY])
        count: int = cursor.rowcount
        outbox.notify_sender()
    return count


def skip(access: Access, delivery: WebhookDelivery) -> None:
    """Give up what is still to be sent, so that what follows it can go; again is fine."""
    access.require("data.webhooks.manage")
    waiting = WebhookDelivery.objects.filter(pk=delivery.pk, status=DeliveryStatus.PENDING)
    who = access.user.display_name if access.user else "a program"
    waiting.update(
        status=DeliveryStatus.FAILED, next_retry_at=None, error=f"Skipped by {who}."[:500]
    )
    delivery.refresh_from_db()
    outbox.call_followers(delivery)
    # Nothing that fails is left: a later failure begins a day of its own.
    endpoint = WebhookEndpoint.objects.filter(pk=delivery.endpoint_id)
    if not delivery.endpoint.deliveries.filter(status=DeliveryStatus.PENDING).exists():
        endpoint.update(failing_since=None)
