"""The home page with its live board, what the demo understands, and how the installation does."""

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from runs.lifecycle import workers
from runs.models import WorkerBeat
from runs.queries import activity, first_steps, health
from runs.queries import home as queries
from runs.usage import totals
from runs.usage.periods import Span
from runs.views.threads import composer_of
from teammates.people import users
from teammates.providers import demo
from teammates.types import Context
from teammates.web.pages import PageRequest


@require_GET
def home(request: PageRequest) -> HttpResponse:
    """What needs the person, what goes on, and what came of it. htmx asks for the board alone."""
    context = _board(request)
    if request.headers.get("HX-Request"):
        return render(request, "home/home.html#activity", context)
    return render(
        request,
        "home/home.html",
        context
        | composer_of(request.access)
        | {
            "notices": queries.notices(request.access),
        },
    )


def _board(request: PageRequest) -> Context:
    access = request.access
    week = totals.by_day(access, Span.last(7, access.organization.zone))
    shows_steps = access.may_act and (
        "first-steps" in request.GET or users.shows_first_steps(access)
    )
    steps = first_steps.first_steps(access) if shows_steps else []
    return {
        "rows": activity.rows(access),
        "counts": queries.counts(access),
        "week": week,
        "today": week[-1],
        "unseen": queries.unseen(access),
        "upcoming": queries.upcoming(access),
        "is_anybody_working": workers.is_anybody_working(),
        "first_steps": steps,
        "has_begun": any(step.is_done for step in steps),
    }


@require_POST
def first_steps_dismiss(request: PageRequest) -> HttpResponse:
    users.hide_first_steps(request.access)
    return redirect("runs:home")


def demo_words(request: PageRequest) -> HttpResponse:
    return render(request, "home/demo.html", {"words": demo.WORDS})


@require_GET
def status(request: PageRequest) -> HttpResponse:
    """Version, workers, queue and database of the whole installation: for those who run it."""
    request.access.require_installation()
    context = {
        "health": health.health(),
        "silent_before": timezone.now() - WorkerBeat.silent_after(),
    }
    return render(request, "home/status.html", context)
