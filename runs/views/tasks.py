"""Tasks: saved work, what starts it, what came of it; and everything that is due or was."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from itertools import islice

from django.contrib import messages
from django.db.models import Avg
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from runs.creation import options, requests
from runs.models import (
    Channel,
    FiringStatus,
    PauseReason,
    Run,
    RunStatus,
    Task,
    Trigger,
    TriggerKind,
)
from runs.tasks import lessons, tasks
from runs.triggers import definitions, due_times, schedule_text
from runs.views.channels import (
    InboundChannels,
)
from runs.views.forms.tasks import ScheduleForm, TaskForm
from teammates.errors import DomainError, Invalid, NotFound
from teammates.templatetags.parts import Tab
from teammates.types import Context
from teammates.web.pages import PageRequest, add_refusal, number_of, page_of

# --- one ----------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
def task_new(request: PageRequest) -> HttpResponse:
    """Saved work, perhaps with a schedule at once."""
    access = request.access
    form = TaskForm(
        access,
        request.POST or None,
        initial={
            "teammate": number_of(request.GET.get("teammate", ""))
            or access.organization.default_teammate_id,
            "email_notifications": True,
            "learns": True,
        },
    )
    usual = ScheduleForm.now(None, access.organization.timezone)
    schedule = ScheduleForm(request.POST or None, initial=usual)
    is_scheduled = "scheduled" in request.POST
    if request.method == "POST" and form.is_valid() and (not is_scheduled or schedule.is_valid()):
        try:
            made = definitions.create_task_with(
                access,
                form.cleaned_data["teammate"],
                schedule=schedule.timing() if is_scheduled else None,
                **form.changes(),
            )
        except DomainError as error:
            add_refusal(form, error, schedule)
        else:
            messages.success(request, f"{made.name} is ready.")
            return redirect(made)
    context = {"form": form, "schedule": schedule, "is_scheduled": is_scheduled}
    has_errors = form.errors or (is_scheduled and schedule.errors)
    return render(request, "tasks/task_new.html", context, status=422 if has_errors else 200)


@require_http_methods(["GET", "POST"])
def task_detail(request: PageRequest, task_id: int) -> HttpResponse:
    """One tab of a task; posting to `setup` saves it."""
    task = find_task(request, task_id)
    tab = request.GET.get("tab", "overview")
    if tab not in PARTS:
        tab = "overview"
    if request.method == "POST":
        return _save(request, task)
    return task_page(request, task, tab, PARTS[tab](request, task))


def find_task(request: PageRequest, task_id: int) -> Task:
    task = tasks.get_task(request.access, task_id)
    if task.is_ad_hoc:
        raise NotFound("There is no such task.")
    return task


def task_page(
    request: PageRequest, task: Task, tab: str, context: Context, status: int = 200
) -> HttpResponse:
    labels = {"setup": "Set-up"}
    frame = {
        "task": task,
        "tab": tab,
        "template": f"tasks/_{tab}.html",
        "tabs": [
            Tab(
                labels.get(name, name.title()), f"{task.get_absolute_url()}?tab={name}", name == tab
            )
            for name in PARTS
        ],
        "may_edit": tasks.may_edit(request.access, task) and not task.is_archived,
        "may_restore": tasks.may_edit(request.access, task) and task.is_archived,
    }
    return render(request, "tasks/task_detail.html", frame | context, status=status)


def _overview(request: PageRequest, task: Task) -> Context:
    upcoming: list[tuple[datetime, Trigger]] = []
    timed = [one for one in task.triggers.all() if one.kind == TriggerKind.SCHEDULE]
    for trigger in timed:
        trigger.task = task
        if trigger.is_active:
            upcoming += [(due, trigger) for due in islice(due_times.next_times(trigger), 10)]
    runs = Run.objects.visible_to(request.access).filter(task=task)
    ended = runs.filter(status__in=[RunStatus.COMPLETED, RunStatus.FAILED]).order_by("-id")[:50]
    states = Counter(ended.values_list("status", flat=True))
    total = sum(states.values())
    return {
        "has_schedules": bool(timed),
        "of_runs": f"of the last {total}" if total else "",
        "resting": [
            (one, schedule_text.in_words(one))
            for one in timed
            if one.rests_because == PauseReason.FAILURES
        ],
        "upcoming": sorted(upcoming, key=lambda pair: pair[0])[:10],
        "runs": runs.for_list().newest_first()[:10],
        "succeeded": states[RunStatus.COMPLETED] / total if total else None,
        "cost_per_run": runs.aggregate(each=Avg("cost"))["each"],
        "waiting": task.firings.filter(status=FiringStatus.WAITING).count(),
    }


def _history(request: PageRequest, task: Task) -> Context:
    rows = task.firings.select_related("task", "teammate", "run", "trigger")
    return {"page": page_of(request, rows, "-id", size=50)}


def triggers_shown(request: PageRequest, task: Task) -> Context:
    of_kind: dict[str, list[Trigger]] = {}
    for trigger in task.triggers.all():
        trigger.task = task
        of_kind.setdefault(trigger.kind, []).append(trigger)
    hook = next(iter(of_kind.get(TriggerKind.WEBHOOK, [])), None)
    inbox = next(iter(of_kind.get(TriggerKind.EMAIL, [])), None)
    return {
        "schedules": [
            (one, schedule_text.in_words(one), due_times.next_time(one))
            for one in of_kind.get(TriggerKind.SCHEDULE, [])
        ],
        "reach": InboundChannels.of_task(request, task, hook, inbox),
        "calls": task.firings.exclude(kind=TriggerKind.SCHEDULE)
        .select_related("run")
        .order_by("-id")[:50],
    }


def _lessons(request: PageRequest, task: Task) -> Context:
    return {"lessons": lessons.lessons_of(task), "capacity": lessons.MOST_LESSONS}


def _setup(request: PageRequest, task: Task) -> Context:
    return {"form": TaskForm(request.access, initial=TaskForm.now(task))}


PARTS: dict[str, Callable[[PageRequest, Task], Context]] = {
    "overview": _overview,
    "history": _history,
    "triggers": triggers_shown,
    "lessons": _lessons,
    "setup": _setup,
}


def _save(request: PageRequest, task: Task) -> HttpResponse:
    given = request.POST.copy()
    given["teammate"] = str(task.teammate_id)
    form = TaskForm(request.access, given)
    if form.is_valid():
        try:
            tasks.update_task(request.access, task, **form.changes())
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, "Saved. Runs that have begun stay as they were.")
            return redirect(f"{task.get_absolute_url()}?tab=setup")
    return task_page(request, task, "setup", {"form": form}, status=422)


# --- acts ---------------------------------------------------------------------------------------


@require_POST
def task_act(request: PageRequest, task_id: int) -> HttpResponse:
    """Run now, pause, resume, duplicate, archive."""
    access, task = request.access, find_task(request, task_id)
    match request.POST.get("act", ""):
        case "run":
            run = requests.run_task(
                access,
                task,
                options=options.Options(),
                channel=Channel.APP,
                extra=request.POST.get("message", "").strip(),
            )
            return redirect(run.thread)
        case "pause" | "resume" as act:
            tasks.update_task(access, task, enabled=act == "resume")
            rests = "is paused, its schedules with it; its webhook and its mail are switched off"
            messages.success(
                request, f"{task.name} {rests if act == 'pause' else 'is active again'}."
            )
        case "duplicate":
            copy = definitions.duplicate_task(access, task)
            messages.success(request, "This is the copy. Its schedules are paused: look at them.")
            return redirect(f"{copy.get_absolute_url()}?tab=triggers")
        case "archive":
            tasks.archive_task(access, task)
            messages.success(request, f"{task.name} is archived; its runs are kept.")
            return redirect("runs:task_list")
        case "restore":
            tasks.restore_task(access, task)
            messages.success(request, "Restored, and paused: its triggers are switched off.")
            return redirect(task)
        case _:
            raise Invalid("Choose what to do.")
    return redirect(request.headers.get("Referer") or task)


@require_POST
def lesson_act(request: PageRequest, task_id: int) -> HttpResponse:
    """Forget one lesson, or all."""
    access, task = request.access, find_task(request, task_id)
    if lesson := request.POST.get("lesson", ""):
        lessons.forget_lesson(access, task, lesson)
    else:
        lessons.clear_lessons(access, task)
    messages.success(request, "Forgotten.")
    return redirect(f"{task.get_absolute_url()}?tab=lessons")
