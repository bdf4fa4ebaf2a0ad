"""v1: webhook endpoints (contract v1 2.11)."""

from uuid import UUID

from ninja import Router, Status

from runs.models import Dialect, WebhookEndpoint
from runs.webhooks import endpoints
from teammates.api.schemas import ApiRequest, Input, iso
from teammates.types import JSON

router = Router(tags=["webhooks"])


class EndpointIn(Input):
    url: str
    events: list[str]


class EndpointChange(Input):
    enabled: bool | None = None
    url: str | None = None
    events: list[str] | None = None


@router.post("/webhook-endpoints", response={201: JSON})
def create_endpoint(request: ApiRequest, payload: EndpointIn) -> Status[JSON]:
    """Where events of runs are sent. `secret`, which signs them, is shown here alone."""
    made = endpoints.add_endpoint(
        request.auth, url=payload.url, events=payload.events, dialect=Dialect.THREADS
    )
    return Status(201, endpoint_out(made) | {"secret": made.secret})


@router.get("/webhook-endpoints")
def list_endpoints(request: ApiRequest) -> list[JSON]:
    """All of the account, newest first."""
    return [endpoint_out(endpoint) for endpoint in endpoints.list_endpoints(request.auth)]


@router.get("/webhook-endpoints/{endpoint_id}")
def get_endpoint(request: ApiRequest, endpoint_id: UUID) -> JSON:
    return endpoint_out(endpoints.get_endpoint(request.auth, uid=endpoint_id))


@router.patch("/webhook-endpoints/{endpoint_id}")
def update_endpoint(request: ApiRequest, endpoint_id: UUID, payload: EndpointChange) -> JSON:
    """Pause or resume it, or change what is given."""
    endpoint = endpoints.get_endpoint(request.auth, uid=endpoint_id)
    return endpoint_out(
        endpoints.update_endpoint(
            request.auth, endpoint, active=payload.enabled, url=payload.url, events=payload.events
        )
    )


@router.delete("/webhook-endpoints/{endpoint_id}")
def delete_endpoint(request: ApiRequest, endpoint_id: UUID) -> dict[str, bool]:
    endpoints.delete_endpoint(request.auth, endpoints.get_endpoint(request.auth, uid=endpoint_id))
    return {"ok": True}


def endpoint_out(endpoint: WebhookEndpoint) -> JSON:
    return {
        "id": str(endpoint.uid),
        "org_id": str(endpoint.organization.uid),
        "url": endpoint.url,
        "events": endpoint.events,
        "enabled": endpoint.active,
        "created_at": iso(endpoint.created_at),
    }
