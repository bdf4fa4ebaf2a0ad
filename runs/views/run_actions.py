"""What people do with a run: stop, retry, edit, fork, share, archive."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from runs.creation import conversation, retries
from runs.gates import decisions
from runs.lifecycle import endings, flags
from runs.models import Channel, Run
from runs.sharing import links
from runs.views.runs import find_run
from teammates.web.pages import PageRequest


@require_POST
def run_mode(request: PageRequest, run_id: int) -> HttpResponse:
    """Change how a run asks; to autonomous, what waits for an approval is allowed."""
    run = find_run(request, run_id)
    decisions.switch_mode(request.access, run, request.POST.get("permission_mode", ""))
    messages.success(request, f"The run's mode: {run.get_permission_mode_display().lower()}.")
    return redirect(run)


@require_POST
def run_retry(request: PageRequest, run_id: int) -> HttpResponse:
    """Try again; what would be done twice is asked about first (`confirm`)."""
    run = find_run(request, run_id)
    is_sure = bool(request.POST.get("confirm"))
    again, _ = retries.retry_run(request.access, run, confirm=is_sure, channel=Channel.APP)
    return redirect(_back(request, again))


@require_POST
def run_continue(request: PageRequest, run_id: int) -> HttpResponse:
    """Ask for the rest of an answer that was cut off, once."""
    run = find_run(request, run_id)
    conversation.continue_run(request.access, run)
    return redirect(run.thread)


def _back(request: PageRequest, run: Run) -> str:
    """To the conversation, or to the run for those who came from a run's page."""
    return (
        run.thread.get_absolute_url()
        if request.POST.get("to") == "thread"
        else (run.get_absolute_url())
    )


@require_POST
def run_edit(request: PageRequest, run_id: int) -> HttpResponse:
    """Say a queued message otherwise."""
    run = find_run(request, run_id)
    conversation.edit_queued(request.access, run, request.POST.get("message", ""))
    if request.headers.get("HX-Request"):
        return HttpResponse(status=204, headers={"HX-Refresh": "true"})
    return redirect(run.thread)


@require_POST
def run_next(request: PageRequest, run_id: int) -> HttpResponse:
    """Stop what keeps a queued message waiting."""
    run = find_run(request, run_id)
    conversation.stop_others(request.access, run)
    return redirect(run.thread)


@require_POST
def run_fork(request: PageRequest, run_id: int) -> HttpResponse:
    """Go on from here in a new conversation."""
    thread = conversation.fork_thread(request.access, find_run(request, run_id))
    messages.success(request, "This is a copy: what you say here stays here.")
    return redirect(thread)


@require_POST
def run_share(request: PageRequest, run_id: int) -> HttpResponse:
    """Make a public link, and show it."""
    run = links.share(request.access, find_run(request, run_id))
    return _share_box(request, run)


@require_POST
def run_unshare(request: PageRequest, run_id: int) -> HttpResponse:
    run = find_run(request, run_id)
    links.unshare(request.access, run)
    return _share_box(request, run)


def _share_box(request: PageRequest, run: Run) -> HttpResponse:
    path = links.path_of(run)
    link = request.build_absolute_uri(path) if path else ""
    if request.headers.get("HX-Request"):
        return render(request, "run_detail/_share.html", {"run": run, "link": link})
    said = f"Everybody with this link can read it: {link}" if link else "The link is revoked."
    messages.success(request, said)
    return redirect(_back(request, run))


@require_POST
def run_archive(request: PageRequest, run_id: int) -> HttpResponse:
    """Take a run out of the list, or back into it."""
    run = find_run(request, run_id)
    flags.set_archived(request.access, run, archived=run.archived_at is None)
    messages.success(request, "Archived." if run.archived_at else "Back in the list.")
    return redirect(run)


@require_POST
def run_close(request: PageRequest, run_id: int) -> HttpResponse:
    """End a run that nobody executes, for good, with a reason."""
    run = find_run(request, run_id)
    endings.close_run(request.access, run, reason=request.POST.get("reason", ""))
    return redirect(run)


@require_POST
def run_cancel(request: PageRequest, run_id: int) -> HttpResponse:
    run = find_run(request, run_id)
    endings.stop_run(request.access, run)
    if request.headers.get("HX-Request"):
        return HttpResponse('<span class="chip">Stopping…</span>')
    return redirect(request.headers.get("Referer") or run.get_absolute_url())
