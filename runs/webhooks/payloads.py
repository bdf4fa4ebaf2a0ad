"""What is sent to an endpoint: bodies, headers and signatures of both dialects."""

import hashlib
import hmac
import json
from collections.abc import Callable

from django.utils import timezone

from runs.models import Dialect, Run, RunStatus, WebhookDelivery, WebhookEndpoint
from runs.wire import V1_STATUS, V2_STATUS, headline_of
from teammates.types import JSON

LARGEST_OUTPUT = 64 * 1024  # characters of an answer


def body_of(endpoint: WebhookEndpoint, event: str, event_id: str, run: Run | None) -> str:
    """What is sent, the same bytes at each attempt. Without a run: a test."""
    return json.dumps(_BODIES[Dialect(endpoint.dialect)](endpoint, event, event_id, run))


def _teammates_body(endpoint: WebhookEndpoint, event: str, event_id: str, run: Run | None) -> JSON:
    data: JSON = dict.fromkeys(
        (
            "run_id",
            "task_id",
            "teammate_id",
            "user_id",
            "status",
            "output",
            "output_data",
            "error",
            "error_code",
            "headline",
            "metadata",
        )
    )
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


def _threads_body(endpoint: WebhookEndpoint, event: str, event_id: str, run: Run | None) -> JSON:
    return {
        "event": event,
        "run_id": str(run.uid) if run else None,
        "account_id": str(endpoint.organization.uid),
        "thread_id": str(run.thread.uid) if run else None,
        "status": V1_STATUS[RunStatus(run.status)] if run else None,
        "created_at": _now(),
    }


_Body = Callable[[WebhookEndpoint, str, str, Run | None], JSON]
_BODIES: dict[Dialect, _Body] = {
    Dialect.TEAMMATES: _teammates_body,
    Dialect.THREADS: _threads_body,
}


def headers_of(delivery: WebhookDelivery, secret: str, timestamp: int) -> dict[str, str]:
    """With the signature, made by `secret` at `timestamp` (Unix seconds)."""
    shared = {
        "Content-Type": "application/json",
        "User-Agent": "Muster/0.1 (+webhooks)",
        "Accept-Encoding": "identity",
    }
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
