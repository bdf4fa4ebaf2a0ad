"""The home page with its live board, what the demo understands, and how the installation does."""

from datetime import timedelta

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from runs.lifecycle import workers
from runs.models import FINISHED, ON_HOME, Notice, Run, RunStatus, Task, Trigger, WorkerBeat
from runs.queries import activity, first_steps, health
from runs.usage import totals
from runs.usage.periods import Span
from runs.views.threads import composer_of
from teammates.errors import Forbidden
from teammates.people import users
from teammates.providers import demo
from teammates.types import Context
from teammates.web.pages import PageRequest

RECENT = timedelta(days=3)
MOST_COUNTED = 1000


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
            "notices": Notice.objects.filter(
                user=request.access.user,
                kind__in=ON_HOME,
                dismissed_at=None,
                run__organization=request.access.organization,
            )
            .select_related("run__teammate")
            .order_by("-id")[:10],
        },
    )


def _board(request: PageRequest) -> Context:
    access = request.access
    runs = Run.objects.visible_to(access)
    now = timezone.now()
    week = totals.by_day(access, Span.last(7))
    unseen = runs.filter(
        status__in=FINISHED,
        last_viewed_at=None,
        created_at__gte=now - RECENT,
        archived_at=None,
        created_by=access.user,
    ).exclude(status=RunStatus.CLOSED)
    shows_steps = access.may_act and (
        "first-steps" in request.GET or users.shows_first_steps(access)
    )
    steps = first_steps.first_steps(access) if shows_steps else []
    return {
        "rows": activity.rows(access),
        "waiting": runs.needing_a_person()[:MOST_COUNTED].count(),
        "running": runs.filter(status__in=[RunStatus.QUEUED, RunStatus.RUNNING])[
            :MOST_COUNTED
        ].count(),
        "failed": runs.filter(status=RunStatus.FAILED, created_at__gte=now - timedelta(days=1))[
            :MOST_COUNTED
        ].count(),
        "week": week,
        "today": week[-1],
        "unseen": unseen.for_list().select_related("answer").newest_first()[:6],
        "upcoming": Trigger.objects.active()
        .filter(next_at__gte=now, task__in=Task.objects.visible_to(access).saved())
        .select_related("task__teammate")
        .order_by("next_at")[:5],
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
    if not (request.access.is_admin and request.access.organization.is_home):
        raise Forbidden("How the installation is doing is for the admins of its own organization.")
    context = {
        "health": health.health(),
        "silent_before": timezone.now() - WorkerBeat.silent_after(),
    }
    return render(request, "home/status.html", context)
