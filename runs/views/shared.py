"""Public, read-only pages behind a shared link."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from runs import messages, reading, sharing
from runs.models import Artifact, Run
from teammates.pages import public
from threads.downloads import file_response
from threads.models import File


@public
@require_GET
def shared_run(request: HttpRequest, token: str) -> HttpResponse:
    """What was asked, what was said, and the files: no tools, no thoughts, no names of people."""
    run = Run.objects.with_outcome().get(pk=sharing.find_shared(Run, token).pk)
    context: dict[str, Any] = {
        "run": run,
        "said": [one for one in messages.messages_of(run) if one.text],
        "files": reading.files_of(run),
        "token": token,
    }
    return _unlisted(render(request, "runs/shared_run.html", context))


@public
@require_GET
def shared_file(request: HttpRequest, token: str, name: str) -> HttpResponse:
    return _download(reading.file_of(sharing.find_shared(Run, token), name))


@public
@require_GET
def shared_artifact(request: HttpRequest, token: str) -> HttpResponse:
    artifact = Artifact.objects.select_related("file").get(
        pk=sharing.find_shared(Artifact, token).pk
    )
    return _download(artifact.file)


def _download(file: File) -> HttpResponse:
    return _unlisted(file_response(file))


def _unlisted(response: HttpResponse) -> HttpResponse:
    """No search engine lists it, no cache keeps it: it can be revoked."""
    response["X-Robots-Tag"] = "noindex, nofollow"
    response["Cache-Control"] = "private, no-store"
    response["Referrer-Policy"] = "no-referrer"
    return response
