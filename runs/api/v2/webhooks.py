"""v2: endpoints of webhooks and their deliveries (contract v2 2.5)."""

from ninja import Router, Status

from runs.api.v2.shared import own_scope
from runs.models import WebhookDelivery, WebhookEndpoint
from runs.webhooks import endpoints
from teammates.api.schemas import ApiRequest, Input, Limit, iso, paged
from teammates.api.scopes import scope_for_writing
from teammates.types import JSON

router = Router()


class WebhookIn(Input):
    url: str
    events: list[str] | None = None
    user_id: str | None = None


class WebhookChange(Input):
    url: str | None = None
    events: list[str] | None = None
    active: bool | None = None
    rotate_secret: bool = False


@router.post("/webhooks", response={201: JSON}, tags=["webhooks"])
def create_webhook(request: ApiRequest, payload: WebhookIn) -> Status[JSON]:
    """Where events of runs are sent. The secret is shown here in full, and not again."""
    access = scope_for_writing(request, payload.user_id, is_strict=False)
    made = endpoints.add_endpoint(access, url=payload.url, events=payload.events)
    return Status(201, webhook_out(made) | {"secret": made.secret})


@router.get("/webhooks", tags=["webhooks"])
def list_webhooks(
    request: ApiRequest,
    user_id: str | None = None,
    limit: Limit = 20,
    starting_after: int | None = None,
) -> JSON:
    rows = endpoints.list_endpoints(own_scope(request, user_id))
    return paged(rows, limit, starting_after, webhook_out)


@router.get("/webhooks/{webhook_id}", tags=["webhooks"])
def get_webhook(request: ApiRequest, webhook_id: int, user_id: str | None = None) -> JSON:
    return webhook_out(endpoints.get_endpoint(own_scope(request, user_id), pk=webhook_id))


@router.patch("/webhooks/{webhook_id}", tags=["webhooks"])
def update_webhook(
    request: ApiRequest, webhook_id: int, payload: WebhookChange, user_id: str | None = None
) -> JSON:
    """Change what is given; `rotate_secret` answers with the new secret in full."""
    endpoint = endpoints.get_endpoint(own_scope(request, user_id), pk=webhook_id)
    changed = endpoints.update_endpoint(request.auth, endpoint, **payload.dict())
    shown = webhook_out(changed)
    return shown | ({"secret": changed.secret} if payload.rotate_secret else {})


@router.delete("/webhooks/{webhook_id}", response={204: None}, tags=["webhooks"])
def delete_webhook(
    request: ApiRequest, webhook_id: int, user_id: str | None = None
) -> Status[None]:
    endpoint = endpoints.get_endpoint(own_scope(request, user_id), pk=webhook_id)
    endpoints.delete_endpoint(request.auth, endpoint)
    return Status(204, None)


@router.get("/webhooks/{webhook_id}/deliveries", tags=["webhooks"])
def list_deliveries(
    request: ApiRequest,
    webhook_id: int,
    user_id: str | None = None,
    limit: Limit = 20,
    starting_after: int | None = None,
) -> JSON:
    """What was sent, and how it was answered; newest first."""
    endpoint = endpoints.get_endpoint(own_scope(request, user_id), pk=webhook_id)
    return paged(endpoint.deliveries.order_by("-id"), limit, starting_after, delivery_out)


def webhook_out(endpoint: WebhookEndpoint) -> JSON:
    return {
        "id": endpoint.pk,
        "url": endpoint.url,
        "events": endpoint.events,
        "secret": f"{endpoint.secret[:4]}...",
        "active": endpoint.active,
        "rests_because": endpoint.rests_because or None,
        "old_secret_valid_until": iso(endpoint.old_secret_until),
        "created_at": iso(endpoint.created_at),
        "updated_at": iso(endpoint.updated_at),
        "user_id": endpoint.end_user.external_id if endpoint.end_user else None,
    }


def delivery_out(delivery: WebhookDelivery) -> JSON:
    return {
        "id": delivery.pk,
        "webhook_endpoint_id": delivery.endpoint_id,
        "event_type": delivery.event_type,
        "event_id": delivery.event_id,
        "run_id": delivery.run_id or 0,  # a test is of no run; clients want a number
        "status": delivery.status,
        "response_status_code": delivery.response_status,
        "response_body": delivery.response_body or None,
        "attempts": delivery.attempts,
        "error": delivery.error or None,
        "next_retry_at": iso(delivery.next_retry_at),
        "created_at": iso(delivery.created_at),
    }
