"""What is forgotten after a while: logs, deliveries, audit entries."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from runs.inbox import mailbox
from runs.models import (
    DeliveryStatus,
    Firing,
    FiringStatus,
    IdempotencyKey,
    WebhookDelivery,
    WebhookEndpoint,
    WorkerBeat,
)
from runs.retention.erasure import BATCH, REMOVED_FOR
from teammates.models import AuditEntry, RefreshToken
from teammates.people import account_mail
from teammates.trust import limits


def forget_old() -> None:
    """Ended sessions and limits, expired idempotency keys, old entries of the logs, mails that no
    server took, removed webhooks, and workers that have long been silent."""
    now = timezone.now()
    RefreshToken.objects.filter(expires_at__lt=now).delete()
    IdempotencyKey.objects.filter(claimed_at__lt=now - timedelta(days=2)).delete()
    AuditEntry.objects.filter(created_at__lt=now - timedelta(days=settings.AUDIT_DAYS)).delete()
    WorkerBeat.objects.filter(seen_at__lt=now - timedelta(days=1)).delete()
    mailbox.forget_old()
    limits.forget_ended()
    logged = now - timedelta(days=settings.LOG_DAYS)
    # What waits for an endpoint that was paused is sent once somebody wakes it.
    sent = WebhookDelivery.objects.exclude(status=DeliveryStatus.PENDING)
    delete_in_batches(sent.filter(created_at__lt=logged))
    firings = Firing.objects.filter(created_at__lt=logged)
    delete_in_batches(firings.exclude(status=FiringStatus.WAITING))
    removed = WebhookEndpoint.objects.filter(deleted_at__lt=now - REMOVED_FOR)
    delete_in_batches(WebhookDelivery.objects.filter(endpoint__in=removed))
    removed.delete()
    account_mail.forget_kept(logged)


def delete_in_batches(rows: QuerySet[Any]) -> None:
    while pks := list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        rows.model._default_manager.filter(pk__in=pks).delete()
