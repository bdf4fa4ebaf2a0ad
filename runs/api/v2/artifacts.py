"""v2: artifacts and their links (contract v2 2.6)."""

from django.http import HttpResponse
from ninja import Router, Status

from runs.api.v2.shapes import share_out
from runs.api.v2.shared import find_run, own_scope
from runs.models import Artifact
from runs.sharing import artifacts, links
from teammates.api.schemas import ApiRequest, Input, Limit, address_of, iso, paged
from teammates.types import JSON
from threads.downloads import file_response

router = Router()


class ArtifactIn(Input):
    run_id: int
    filename: str


@router.post("/artifacts", response={201: JSON}, tags=["artifacts"])
def create_artifact(request: ApiRequest, payload: ArtifactIn) -> Status[JSON]:
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
) -> JSON:
    rows = artifacts.list_artifacts(own_scope(request, user_id))
    if run_id is not None:
        rows = rows.filter(run=run_id)
    if agent_id is not None:
        rows = rows.filter(run__teammate=agent_id)
    return paged(rows, limit, starting_after, lambda one: artifact_out(request, one))


@router.get("/artifacts/{artifact_id}", tags=["artifacts"])
def get_artifact(request: ApiRequest, artifact_id: int, user_id: str | None = None) -> JSON:
    return artifact_out(request, artifacts.get_artifact(own_scope(request, user_id), artifact_id))


@router.get("/artifacts/{artifact_id}/content", tags=["artifacts"])
def download_artifact(
    request: ApiRequest, artifact_id: int, user_id: str | None = None
) -> HttpResponse:
    return file_response(artifacts.get_artifact(own_scope(request, user_id), artifact_id).file)


@router.delete("/artifacts/{artifact_id}", response={204: None}, tags=["artifacts"])
def delete_artifact(
    request: ApiRequest, artifact_id: int, user_id: str | None = None
) -> Status[None]:
    found = artifacts.get_artifact(own_scope(request, user_id), artifact_id)
    artifacts.delete_artifact(request.auth, found)
    return Status(204, None)


@router.post("/artifacts/{artifact_id}/share", tags=["artifacts"])
def share_artifact(request: ApiRequest, artifact_id: int, user_id: str | None = None) -> JSON:
    """A public link to the file; again is the same link."""
    found = artifacts.get_artifact(own_scope(request, user_id), artifact_id)
    return share_out(request, links.share(request.auth, found))


@router.delete("/artifacts/{artifact_id}/share", response={204: None}, tags=["artifacts"])
def unshare_artifact(
    request: ApiRequest, artifact_id: int, user_id: str | None = None
) -> Status[None]:
    links.unshare(request.auth, artifacts.get_artifact(own_scope(request, user_id), artifact_id))
    return Status(204, None)


def artifact_out(request: ApiRequest, artifact: Artifact) -> JSON:
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
