"""Artifacts: files of runs that are kept and shared by themselves."""

from typing import Any

from runs.models import Artifact, Run
from runs.queries import lookup
from teammates.access import Access
from teammates.errors import NotFound


def keep_file(access: Access, run: Run, name: str) -> Artifact:
    """Make an artifact of a file that the run wrote; again is the same one, at the file's newest
    version. Raises `NotFound`."""
    access.require("data.runs.write", run)
    file = lookup.file_of(run, name)
    artifact, _ = Artifact.objects.update_or_create(
        run=run,
        name=name,
        defaults={"organization": run.organization, "end_user": run.end_user, "file": file},
    )
    return artifact


def delete_artifact(access: Access, artifact: Artifact) -> None:
    """The file stays with its run; the public link dies."""
    access.require("data.runs.write")
    artifact.delete()


def get_artifact(access: Access, artifact_id: int) -> Artifact:
    """Raises `NotFound`."""
    found: Artifact | None = list_artifacts(access).filter(pk=artifact_id).first()
    if found is None:
        raise NotFound("There is no such artifact.", code="artifacts.not_found")
    return found


def list_artifacts(access: Access) -> Any:
    """Of exactly one scope, newest first; a member's own."""
    access.require("data.runs.read")
    rows = Artifact.objects.visible_to(access)
    if not access.is_admin:
        rows = rows.filter(run__created_by=access.user)
    return rows.select_related("run", "file", "end_user").order_by("-id")
