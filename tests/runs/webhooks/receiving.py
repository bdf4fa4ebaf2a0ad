"""What the tests of webhooks share."""

import asyncio
from datetime import timedelta
from typing import Any

from django.utils import timezone

from runs.models import (
    DeliveryStatus,
    WebhookDelivery,
    WebhookEndpoint,
)
from runs.webhooks import endpoints, outbox, sender
from teammates.access import Access
from teammates.public_http import outside_client

ALL = list(outbox.EVENTS)


def make_endpoint(access: Access, url: str, **fields: Any) -> WebhookEndpoint:
    return endpoints.add_endpoint(access, url=url, **{"events": ALL} | fields)


def deliver(*, may_be_private: bool = True) -> None:
    """Send what is due, until nothing is."""

    async def send(claimed: list[WebhookDelivery]) -> list[list[sender.SendAttempt]]:
        async with outside_client(may_be_private=may_be_private, timeout=5) as client:
            return [await sender.send(client, one) for one in claimed]

    while claimed := sender.claim_due(20, {}):
        for one, attempts in zip(claimed, asyncio.run(send(claimed)), strict=True):
            sender.record(one.pk, attempts)


def make_all_due() -> None:
    WebhookDelivery.objects.filter(status=DeliveryStatus.PENDING).update(
        next_retry_at=timezone.now() - timedelta(seconds=1)
    )


class _Counter:
    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, execute: Any, sql: str, *args: Any) -> Any:
        self.said.append(sql)
        return execute(sql, *args)
