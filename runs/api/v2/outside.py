"""v2: what leaves the account: webhooks, artifacts, feedback, the export (contract v2 2.5-2.7)."""

from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Annotated, Any

from django.http import HttpResponse, StreamingHttpResponse
from ninja import Router, Status
from pydantic import Field

from config.database import in_db
from runs import feedback
from runs.api.v2.shapes import share_out
from runs.api.v2.shared import find_run
from runs.models import Artifact, WebhookDelivery, WebhookEndpoint
from runs.retention import closed_accounts, export
from runs.sharing import artifacts, links
from runs.webhooks import endpoints
from teammates.access import Access
from teammates.api.schemas import ApiRequest, Input, Limit, address_of, iso, paged
from teammates.api.scopes import exact_scope, scope_for_writing
from threads.downloads import file_response

router = Router()
PIECES_AT_ONCE = 500  # rows of an export between two writes


# --- webhooks -----------------------------------------------------------------------------------
class WebhookIn(Input):
    url: str
    events: list[str] | None = None
    user_id: str | None = None


class WebhookChange(Input):
    url: str | None = None
    events: list[str] | None = None
    active: bool | None = None
    rotate_secret: bool = False


@router.post("/webhooks", response={201: dict[str, Any]}, tags=["webhooks"])
def create_webhook(request: ApiRequest, payload: WebhookIn) -> Any:
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
) -> dict[str, Any]:
    rows = endpoints.list_endpoints(_scope(request, user_id))
    return paged(rows, limit, starting_after, webhook_out)


@router.get("/webhooks/{webhook_id}", tags=["webhooks"])
def get_webhook(request: ApiRequest, webhook_id: int, user_id: str | None = None) -> dict[str, Any]:
    return webhook_out(endpoints.get_endpoint(_scope(request, user_id), pk=webhook_id))


@router.patch("/webhooks/{webhook_id}", tags=["webhooks"])
def update_webhook(
    request: ApiRequest, webhook_id: int, payload: WebhookChange, user_id: str | None = None
) -> dict[str, Any]:
    """Change what is given; `rotate_secret` answers with the new secret in full."""
    endpoint = endpoints.get_endpoint(_scope(request, user_id), pk=webhook_id)
    changed = endpoints.update_endpoint(request.auth, endpoint, **payload.dict())
    shown = webhook_out(changed)
    return shown | ({"secret": changed.secret} if payload.rotate_secret else {})


@router.delete("/webhooks/{webhook_id}", response={204: None}, tags=["webhooks"])
def delete_webhook(request: ApiRequest, webhook_id: int, user_id: str | None = None) -> Any:
    endpoint = endpoints.get_endpoint(_scope(request, user_id), pk=webhook_id)
    endpoints.delete_endpoint(request.auth, endpoint)
    return Status(204, None)


@router.get("/webhooks/{webhook_id}/deliveries", tags=["webhooks"])
def list_deliveries(
    request: ApiRequest,
    webhook_id: int,
    user_id: str | None = None,
    limit: Limit = 20,
    starting_after: int | None = None,
) -> dict[str, Any]:
    """What was sent, and how it was answered; newest first."""
    endpoint = endpoints.get_endpoint(_scope(request, user_id), pk=webhook_id)
    return paged(endpoint.deliveries.order_by("-id"), limit, starting_after, delivery_out)


def _scope(request: ApiRequest, user_id: str | None) -> Access:
    return exact_scope(request, user_id, is_strict=False)


def webhook_out(endpoint: WebhookEndpoint) -> dict[str, Any]:
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


def delivery_out(delivery: WebhookDelivery) -> dict[str, Any]:
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


# --- artifacts ----------------------------------------------------------------------------------
class ArtifactIn(Input):
    run_id: int
    filename: str


@router.post("/artifacts", response={201: dict[str, Any]}, tags=["artifacts"])
def create_artifact(request: ApiRequest, payload: ArtifactIn) -> Any:
    """Keep a run's file by itself; again is the same artifact."""
    run = find_run(request.auth, payload.run_id)
    return Status(
        201, artifact_out(request, artifacts.keep_file(request.auth, run, payload.filename))
    )


@router.get("/artifacts", tags=["artifacts"])
def list_artifacts(
    request: ApiRequest,
    run_id: int | None = None,
    agent_id: int | None = None,
    user_id: str | None = None,
    limit: Limit = 20,
    starting_after: int | None = None,
) -> dict[str, Any]:
    rows = artifacts.list_artifacts(_scope(request, user_id))
    if run_id is not None:
        rows = rows.filter(run=run_id)
    if agent_id is not None:
        rows = rows.filter(run__teammate=agent_id)
    return paged(rows, limit, starting_after, lambda one: artifact_out(request, one))


@router.get("/artifacts/{artifact_id}", tags=["artifacts"])
def get_artifact(
    request: ApiRequest, artifact_id: int, user_id: str | None = None
) -> dict[str, Any]:
    return artifact_out(request, artifacts.get_artifact(_scope(request, user_id), artifact_id))


@router.get("/artifacts/{artifact_id}/content", tags=["artifacts"])
def download_artifact(
    request: ApiRequest, artifact_id: int, user_id: str | None = None
) -> HttpResponse:
    return file_response(artifacts.get_artifact(_scope(request, user_id), artifact_id).file)


@router.delete("/artifacts/{artifact_id}", response={204: None}, tags=["artifacts"])
def delete_artifact(request: ApiRequest, artifact_id: int, user_id: str | None = None) -> Any:
    found = artifacts.get_artifact(_scope(request, user_id), artifact_id)
    artifacts.delete_artifact(request.auth, found)
    return Status(204, None)


@router.post("/artifacts/{artifact_id}/share", tags=["artifacts"])
def share_artifact(
    request: ApiRequest, artifact_id: int, user_id: str | None = None
) -> dict[str, Any]:
    """A public link to the file; again is the same link."""
    found = artifacts.get_artifact(_scope(request, user_id), artifact_id)
    return share_out(request, links.share(request.auth, found))


@router.delete("/artifacts/{artifact_id}/share", response={204: None}, tags=["artifacts"])
def unshare_artifact(request: ApiRequest, artifact_id: int, user_id: str | None = None) -> Any:
    links.unshare(request.auth, artifacts.get_artifact(_scope(request, user_id), artifact_id))
    return Status(204, None)


def artifact_out(request: ApiRequest, artifact: Artifact) -> dict[str, Any]:
    path = links.path_of(artifact)
    return {
        "id": artifact.pk,
        "name": artifact.name,
        "mime_type": artifact.file.content_type,
        "size_bytes": artifact.file.size,
        "version": artifact.file.version,
        "run_id": artifact.run_id,
        "content_url": f"{address_of(request)}/api/v2/artifacts/{artifact.pk}/content",
        "task_id": artifact.run.task_id,
        "agent_id": artifact.run.teammate_id,
        "user_id": artifact.end_user.external_id if artifact.end_user else None,
        "share_url": path and address_of(request) + path,
        "created_at": iso(artifact.created_at),
    }


# --- feedback -----------------------------------------------------------------------------------
class FeedbackIn(Input):
    message: Annotated[str, Field(min_length=1, max_length=10_000)]
    run_id: int | None = None
    title: Annotated[str, Field(max_length=100)] | None = None
    user_id: str | None = None


@router.post("/feedback", response={201: dict[str, Any]}, tags=["feedback"])
def create_feedback(request: ApiRequest, payload: FeedbackIn) -> Any:
    """Tell those who run this installation something, perhaps about a run."""
    run = None
    if payload.run_id is not None:
        run = find_run(request.auth.for_end_user(payload.user_id), payload.run_id)
    made = feedback.file_report(request.auth, payload.message, title=payload.title or "", run=run)
    shown = {"id": made.pk, "title": made.title, "run_id": made.run_id}
    return Status(201, shown | {"created_at": iso(made.created_at)})


# --- the account --------------------------------------------------------------------------------
@router.get("/account/export", tags=["account"])
def export_account(request: ApiRequest) -> StreamingHttpResponse:
    """Everything that the account holds, without secrets. For its owner."""
    pieces = export.as_json(request.auth)
    first = next(pieces)  # what is refused is refused before anything is sent
    return StreamingHttpResponse(_sent(first, pieces), content_type="application/json")


async def _sent(first: str, pieces: Iterator[str]) -> AsyncIterator[str]:
    """The pieces as they are read, some at a time, on the threads for the database."""
    yield first
    while some := await in_db(lambda: "".join(islice(pieces, PIECES_AT_ONCE))):
        yield some


@router.delete("/account", response={202: dict[str, Any]}, tags=["account"])
def delete_account(request: ApiRequest) -> Any:
    """Close the account at once; what it holds is erased after a while. For its owner."""
    closed = closed_accounts.close_account(request.auth)
    return Status(
        202,
        {
            "status": "scheduled_for_deletion",
            "closed_at": iso(closed.closed_at),
            "erased_at": iso(closed_accounts.erased_at(closed)),
        },
    )
