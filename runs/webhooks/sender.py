"""Outgoing webhooks, the sending: at least once, in order for each run, for a day.

A delivery is claimed by moving its next time on: whoever dies while sending leaves it to be sent
again. No transaction is open while a request is under way.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import httpx2
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from config.claim_loop import ClaimLoop
from config.database import in_db
from config.wakeups import WakeUps
from runs.events import channels
from runs.models import (
    DeliveryAttempt,
    DeliveryStatus,
    EndpointPauseReason,
    WebhookDelivery,
    WebhookEndpoint,
)
from runs.notifications import notices
from runs.webhooks import outbox, payloads
from teammates.models import Role
from teammates.public_http import BlockedAddress, outside_client
from teammates.text import clean_text
from teammates.types import JSON

CLAIMED_FOR = 60  # seconds
AT_ONCE = 32  # requests of a process
AT_ONCE_TO_ONE = 4  # of them to one endpoint
KEPT = 16 * 1024  # bytes of an answer
MOST_HEADERS = 40
# Seconds until the next attempt; a little more than a day in all.
DELAYS = (10, 60, 600, 3600, 5 * 3600, 18 * 3600)
PAUSED_AFTER = timedelta(hours=24)
# What a receiver answers that does not know the new secret yet.
WRONG_SIGNATURE = (400, 401, 403)


@dataclass
class SendAttempt:
    """One request, and what came back."""

    at: datetime
    request_headers: dict[str, str]
    took_ms: int = 0
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    error: str = ""

    @property
    def succeeded(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Sender(ClaimLoop[WebhookDelivery]):
    """One per worker."""

    def __init__(self, wakeups: WakeUps, news: asyncio.Event) -> None:
        super().__init__(wakeups, news, channels.DELIVERIES_CHANNEL)

    async def run(self) -> None:
        async with outside_client(
            may_be_private=settings.ALLOW_PRIVATE_ADDRESSES,
            timeout=settings.WEBHOOK_SECONDS * 2,  # the whole has a limit of its own (`_post`)
        ) as self._client:
            await super().run()

    async def claim(self, under_way: Sequence[WebhookDelivery]) -> list[WebhookDelivery]:
        per_endpoint = Counter(delivery.endpoint_id for delivery in under_way)
        return await in_db(claim_due, AT_ONCE - len(under_way), per_endpoint)

    async def carry_out(self, item: WebhookDelivery) -> None:
        await in_db(record, item.pk, await send(self._client, item))


# --- claim --------------------------------------------------------------------------------------

# The first few that are due of each endpoint, whatever its backlog; of those, the first of each
# endpoint before the second of any.
_CLAIM = """
WITH due AS (
    SELECT one.id, one.place + coalesce(busy.n, 0) AS place
    FROM runs_webhookendpoint e
    LEFT JOIN unnest(%(endpoints)s::bigint[], %(under_way)s::int[]) busy (endpoint_id, n)
      ON busy.endpoint_id = e.id
    CROSS JOIN LATERAL (
        SELECT d.id, row_number() OVER (ORDER BY d.next_retry_at, d.id) AS place
        FROM runs_webhookdelivery d
        WHERE d.endpoint_id = e.id AND d.status = 'pending'
          AND d.next_retry_at <= statement_timestamp()
          AND (d.run_id IS NULL OR e.active AND d.id = (
            SELECT min(b.id) FROM runs_webhookdelivery b
            WHERE b.endpoint_id = d.endpoint_id AND b.run_id = d.run_id AND b.status = 'pending'))
        ORDER BY d.next_retry_at, d.id LIMIT %(of_one)s
    ) one
    WHERE e.deleted_at IS NULL AND (e.active OR EXISTS (
        SELECT 1 FROM runs_webhookdelivery t
        WHERE t.endpoint_id = e.id AND t.status = 'pending' AND t.run_id IS NULL))
      AND one.place + coalesce(busy.n, 0) <= %(of_one)s
), picked AS (
    SELECT d.id FROM runs_webhookdelivery d JOIN due USING (id)
    WHERE d.status = 'pending' AND d.next_retry_at <= statement_timestamp()
    ORDER BY due.place, d.id LIMIT %(n)s FOR NO KEY UPDATE OF d SKIP LOCKED
)
UPDATE runs_webhookdelivery d
SET next_retry_at = statement_timestamp() + make_interval(secs => %(claimed_for)s)
FROM picked WHERE d.id = picked.id RETURNING d.id
"""


def due() -> "QuerySet[WebhookDelivery]":
    """What may be sent, were it its turn."""
    return WebhookDelivery.objects.filter(
        status=DeliveryStatus.PENDING, next_retry_at__lte=Now(), endpoint__deleted_at=None
    )


def claim_due(limit: int, under_way: Mapping[int, int]) -> list[WebhookDelivery]:
    """Take up to `limit` deliveries that are due, none before an earlier one of its run; of an
    endpoint at most `AT_ONCE_TO_ONE`, with those that are `under_way` to it."""
    if limit < 1:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            _CLAIM,
            {
                "n": limit,
                "of_one": AT_ONCE_TO_ONE,
                "claimed_for": CLAIMED_FOR,
                "endpoints": list(under_way),
                "under_way": list(under_way.values()),
            },
        )
        ids = [row[0] for row in cursor.fetchall()]
    found = WebhookDelivery.objects.filter(pk__in=ids).select_related("endpoint")
    return list(found.order_by("id"))


# --- send ---------------------------------------------------------------------------------------
async def send(client: httpx2.AsyncClient, delivery: WebhookDelivery) -> list[SendAttempt]:
    """Post a delivery, signed with the endpoint's secret; while the old one is still good, a
    receiver that refuses the new signature is shown the old one."""
    endpoint = delivery.endpoint
    attempts = [await _post(client, delivery, endpoint.secret)]
    until = endpoint.old_secret_until
    if attempts[0].status in WRONG_SIGNATURE and until is not None and until > timezone.now():
        attempts.append(await _post(client, delivery, endpoint.old_secret))
    return attempts


async def _post(client: httpx2.AsyncClient, delivery: WebhookDelivery, secret: str) -> SendAttempt:
    headers = payloads.headers_of(delivery, secret, int(time.time()))
    attempt = SendAttempt(at=timezone.now(), request_headers=headers)
    began = time.monotonic()
    try:
        async with (
            asyncio.timeout(settings.WEBHOOK_SECONDS),
            client.stream(
                "POST", delivery.endpoint.url, content=delivery.body.encode(), headers=headers
            ) as response,
        ):
            attempt.status = response.status_code
            attempt.headers = dict(list(response.headers.items())[:MOST_HEADERS])
            attempt.body = await _beginning(response)
            if response.is_redirect:
                where = response.headers.get("location", "")
                attempt.error = f"Redirects are not followed. Enter its last address: {where}"
            elif not attempt.succeeded:
                attempt.error = f"It answered {response.status_code}."
    except TimeoutError:
        attempt.status = None
        attempt.error = f"It did not answer within {settings.WEBHOOK_SECONDS:g} s."
    except BlockedAddress as error:
        attempt.error = str(error)
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, ValueError) as error:
        attempt.error = f"It could not be reached: {error or type(error).__name__}"
    attempt.took_ms = int((time.monotonic() - began) * 1000)
    return attempt


async def _beginning(response: httpx2.Response) -> str:
    """As much of an answer as is kept; the rest is not read."""
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) >= KEPT:
            break
    return body[:KEPT].decode(errors="replace")


# --- record -------------------------------------------------------------------------------------
def record(delivery_id: int, attempts: list[SendAttempt]) -> None:
    """Write down how a delivery was answered, and when it is tried again. Holds its endpoint, then
    the delivery, then those behind it."""
    with transaction.atomic():
        endpoints = WebhookEndpoint.objects.filter(deliveries=delivery_id)
        endpoints.select_for_update(no_key=True, of=("self",)).first()
        locked = WebhookDelivery.objects.select_for_update(no_key=True)
        delivery = locked.filter(pk=delivery_id).first()
        if delivery is None:  # removed meanwhile
            return
        is_erased = delivery.run is not None and delivery.run.erased_at is not None
        if is_erased:  # what was answered may quote what was said
            for one in attempts:
                one.body = ""
        DeliveryAttempt.objects.bulk_create(
            DeliveryAttempt(
                delivery=delivery,
                at=one.at,
                took_ms=one.took_ms,
                request_headers=one.request_headers,
                response_status=one.status,
                response_headers=_clean_headers(one.headers),
                response_body=clean_text(one.body),
                error=clean_text(one.error)[:500],
            )
            for one in attempts
        )
        last = attempts[-1]
        delivery.attempts += len(attempts)
        delivery.tries += 1
        delivery.response_status, delivery.took_ms = last.status, last.took_ms
        delivery.response_body, delivery.error = clean_text(last.body), clean_text(last.error)[:500]
        if delivery.status == DeliveryStatus.PENDING:
            _decide(delivery, last)
        if is_erased and delivery.status != DeliveryStatus.PENDING:
            delivery.body = ""  # it was kept only to be sent
        delivery.save()
        outbox.call_followers(delivery)
        if delivery.run_id is not None:
            _note_on_endpoint(delivery, last)


def _decide(delivery: WebhookDelivery, last: SendAttempt) -> None:
    if last.succeeded:
        delivery.status, delivery.next_retry_at = DeliveryStatus.SUCCESS, None
    elif delivery.run_id is None or delivery.tries > len(DELAYS):
        delivery.status, delivery.next_retry_at = DeliveryStatus.FAILED, None
    else:
        wait = timedelta(seconds=DELAYS[delivery.tries - 1])
        delivery.next_retry_at = timezone.now() + wait


def _note_on_endpoint(delivery: WebhookDelivery, last: SendAttempt) -> None:
    """An endpoint that took nothing for a day, or says that it is gone, is paused."""
    rows = WebhookEndpoint.objects.filter(pk=delivery.endpoint_id)
    if last.succeeded:
        rows.exclude(failing_since=None).update(failing_since=None)
        return
    rows.update(failing_since=Coalesce(F("failing_since"), timezone.now()))
    active = rows.filter(active=True)
    failing = active.filter(failing_since__lte=timezone.now() - PAUSED_AFTER)
    if last.status == 410 and active.update(active=False, rests_because=EndpointPauseReason.GONE):
        _tell(delivery, "says that it is gone (410)")
    elif failing.update(active=False, rests_because=EndpointPauseReason.FAILURES):
        _tell(delivery, "took nothing for a day")


def _tell(delivery: WebhookDelivery, why: str) -> None:
    assert delivery.run is not None
    notices.tell_of_trouble(
        delivery.run,
        role=Role.ADMIN,
        title=f"A webhook is paused: {urlsplit(delivery.endpoint.url).hostname} {why}",
        text="Its events are kept, and sent when you resume it.",
        path=delivery.endpoint.get_absolute_url(),
    )


def _clean_headers(headers: dict[str, str]) -> JSON:
    return {clean_text(name): clean_text(value)[:1000] for name, value in headers.items()}
