"""Outgoing webhooks, the rows: what is to be sent is written in the transaction of its event, in
the words and with the signature of the endpoint's dialect (contracts v2 5.1, v1 2.11)."""

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

from django.db import connection
from django.utils import timezone

from runs.events.channels import DELIVERIES_CHANNEL
from runs.models import DeliveryStatus, Dialect, Run, RunStatus, WebhookDelivery, WebhookEndpoint
from runs.wording import V1_STATUS, V2_STATUS, headline_of
from teammates.fields import new_uid

EVENTS = (
    "run.started", "run.completed", "run.failed", "run.cancelled", "run.awaiting_input",
    "run.interrupted", "run.message_received", "run.message_cancelled", "balance.low",
    "balance.critical", "balance.depleted",
)  # fmt: skip
EVENT_OF = {
    RunStatus.QUEUED: "run.started",
    RunStatus.WAITING: "run.awaiting_input",
    RunStatus.COMPLETED: "run.completed",
    RunStatus.FAILED: "run.failed",
    RunStatus.CANCELLED: "run.cancelled",
    RunStatus.CLOSED: "run.cancelled",
}
TEST = "webhook.test"
LARGEST_OUTPUT = 64 * 1024  # characters of an answer


def queue(run: Run) -> None:
    """Write down for each endpoint of the run's scope that the run is in its state. Call in the
    transaction that brings it there."""
    event = EVENT_OF[RunStatus(run.status)]
    hearing = WebhookEndpoint.objects.hearing().filter(
        organization=run.organization_id, end_user=run.end_user_id
    )
    wanted = [endpoint for endpoint in hearing.order_by("id") if event in endpoint.events]
    if not wanted:
        return
    event_id = f"evt_{new_uid().hex}"
    now = timezone.now()
    WebhookDelivery.objects.bulk_create(
        WebhookDelivery(
            endpoint=endpoint, run=run, event_type=event, event_id=event_id,
            body=body_of(endpoint, event, event_id, run), next_retry_at=now,
        )
        for endpoint in wanted
    )  # fmt: skip
    wake()


def call_followers(delivery: WebhookDelivery) -> None:
    """What is behind a delivery in its run waits as long as it does, and goes once it is over."""
    if delivery.run_id is None:
        return
    WebhookDelivery.objects.filter(
        endpoint=delivery.endpoint_id, run=delivery.run_id, pk__gt=delivery.pk,
        status=DeliveryStatus.PENDING,
    ).update(next_retry_at=delivery.next_retry_at or timezone.now())  # fmt: skip


def wake() -> None:
    """Tell those who send, when the transaction commits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [DELIVERIES_CHANNEL])


def body_of(endpoint: WebhookEndpoint, event: str, event_id: str, run: Run | None) -> str:
    """What is sent, the same bytes at each attempt. Without a run: a test."""
    return json.dumps(_BODIES[Dialect(endpoint.dialect)](endpoint, event, event_id, run))


def _teammates_body(
    endpoint: WebhookEndpoint, event: str, event_id: str, run: Run | None
) -> dict[str, Any]:
    data: dict[str, Any] = dict.fromkeys((
        "run_id", "task_id", "teammate_id", "user_id", "status", "output", "output_data", "error",
        "error_code", "headline", "metadata",
    ))  # fmt: skip
    data |= {"needs_reply": False, "needs_reply_count": 0, "delivery_channel": "none"}
    if run is not None:
        answer = run.answer.content if run.answer else None
        data |= {
            "run_id": run.pk,
            "task_id": run.task_id,
            "teammate_id": run.teammate_id,
            "user_id": run.end_user.external_id if run.end_user else None,
            "status": V2_STATUS[RunStatus(run.status)],
            "output": answer and answer[:LARGEST_OUTPUT],
            "output_data": run.output_data,
            "error": run.error_message or None,
            "error_code": run.error_class.rpartition(".")[2] or None,
            "headline": headline_of(run),
            "needs_reply": run.needs_somebody,
            "needs_reply_count": int(run.needs_somebody),
            "delivery_channel": "email" if run.is_mailed else "none",
            "metadata": run.metadata,
        }
        if answer and len(answer) > LARGEST_OUTPUT:
            data["output_truncated"] = True
    return {"id": event_id, "type": event, "created_at": _now(), "data": data}


def _threads_body(
    endpoint: WebhookEndpoint, event: str, event_id: str, run: Run | None
) -> dict[str, Any]:
    return {
        "event": event,
        "run_id": str(run.uid) if run else None,
        "account_id": str(endpoint.organization.uid),
        "thread_id": str(run.thread.uid) if run else None,
        "status": V1_STATUS[RunStatus(run.status)] if run else None,
        "created_at": _now(),
    }


_Body = Callable[[WebhookEndpoint, str, str, Run | None], dict[str, Any]]
_BODIES: dict[Dialect, _Body] = {
    Dialect.TEAMMATES: _teammates_body,
    Dialect.THREADS: _threads_body,
}


def headers_of(delivery: WebhookDelivery, secret: str, timestamp: int) -> dict[str, str]:
    """With the signature, made by `secret` at `timestamp` (Unix seconds)."""
    shared = {
        "Content-Type": "application/json", "User-Agent": "Muster/0.1 (+webhooks)",
        "Accept-Encoding": "identity",
    }  # fmt: skip
    if delivery.endpoint.dialect == Dialect.THREADS:
        signature = sign(secret, f"{timestamp}.{delivery.body}")
        return shared | {
            "X-Arkloop-Event": delivery.event_type,
            "X-Arkloop-Delivery": delivery.event_id,
            "X-Arkloop-Timestamp": str(timestamp),
            "X-Arkloop-Signature": f"sha256={signature}",
        }
    signature = sign(secret, f"{delivery.event_id}.{timestamp}.{delivery.body}")
    return shared | {
        "Webhook-Id": delivery.event_id,
        "Webhook-Timestamp": str(timestamp),
        "Webhook-Signature": f"v1={signature}",
    }


def sign(secret: str, message: str) -> str:
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


def _now() -> str:
    return timezone.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
