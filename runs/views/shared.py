"""Public, read-only pages behind a shared link, and the list of all such links."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from runs.models import Artifact, Run
from runs.queries import lookup, turns
from runs.sharing.links import find_shared, list_links, path_of, unshare
from teammates.types import Context
from teammates.web.pages import PageRequest, number_of, public
from threads.downloads import file_response
from threads.models import File


@public
@require_GET
def shared_run(request: HttpRequest, token: str) -> HttpResponse:
    """What was asked, what was said, and the files: no tools, no thoughts, no names of people."""
    run = Run.objects.for_detail().get(pk=find_shared(Run, token).pk)
    context: Context = {
        "run": run,
        "said": [one for one in turns.messages_of(run) if one.text],
        "files": lookup.files_of(run),
        "token": token,
    }
    return _unlisted(render(request, "shared/shared_run.html", context))


@public
@require_GET
def shared_file(request: HttpRequest, token: str, name: str) -> HttpResponse:
    return _download(lookup.file_of(find_shared(Run, token), name))


@public
@require_GET
def shared_artifact(request: HttpRequest, token: str) -> HttpResponse:
    artifact = Artifact.objects.select_related("file").get(pk=find_shared(Artifact, token).pk)
    return _download(artifact.file)


@require_GET
def link_list(request: PageRequest) -> HttpResponse:
    """Every public link that still leads somewhere, to be revoked."""
    links = [
        {
            "row": row,
            "path": path_of(row),
            "run": row if isinstance(row, Run) else row.run,
            "kind": "run" if isinstance(row, Run) else "artifact",
        }
        for row in list_links(request.access)
    ]
    return render(request, "settings/link_list.html", {"links": links})


@require_POST
def link_revoke(request: PageRequest) -> HttpResponse:
    """Revoke one link."""
    wanted = (request.POST.get("kind"), number_of(request.POST.get("id", "")))
    for row in list_links(request.access):
        if wanted == ("run" if isinstance(row, Run) else "artifact", row.pk):
            unshare(request.access, row)
            messages.success(request, "The link is revoked.")
    return redirect("runs:link_list")


def _download(file: File) -> HttpResponse:
    return _unlisted(file_response(file))


def _unlisted(response: HttpResponse) -> HttpResponse:
    """No search engine lists it, no cache keeps it: it can be revoked."""
    response["X-Robots-Tag"] = "noindex, nofollow"
    response["Cache-Control"] = "private, no-store"
    response["Referrer-Policy"] = "no-referrer"
    return response
