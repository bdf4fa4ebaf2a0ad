"""What is forgotten after a while."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from runs.models import DeliveryStatus, WebhookDelivery
from runs.retention.cleanup import forget_old
from runs.webhooks import endpoints
from teammates.access import Access

pytestmark = pytest.mark.django_db


def test_what_waits_for_a_paused_endpoint_is_kept_and_what_was_sent_is_forgotten(
    alice: Access, settings: Any
) -> None:
    endpoint = endpoints.add_endpoint(alice, url="https://example.com/hook")
    for _ in range(2):
        endpoints.send_test(alice, endpoint)
    waiting, sent = WebhookDelivery.objects.order_by("pk")
    WebhookDelivery.objects.filter(pk=sent.pk).update(
        status=DeliveryStatus.SUCCESS, next_retry_at=None
    )
    long_ago = timezone.now() - timedelta(days=settings.LOG_DAYS + 1)
    WebhookDelivery.objects.update(created_at=long_ago)
    forget_old()
    assert list(WebhookDelivery.objects.all()) == [waiting]
