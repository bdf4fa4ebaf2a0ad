"""Tasks: saved work, what starts it, what came of it; and everything that is due or was."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice, takewhile
from typing import Any

from django.contrib import messages
from django.db.models import Avg
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from runs.creation import options, requests
from runs.models import (
    FINISHED,
    Channel,
    FiringStatus,
    Rest,
    Run,
    RunStatus,
    Task,
    TaskStatus,
    Trigger,
    TriggerKind,
)
from runs.tasks import lessons, tasks
from runs.triggers import definitions, due_times, firing, inbound_webhook, schedule_text
from runs.views.channels import (
    SAMPLE,
    Reach,
    hook_address,
    refuse_senders,
    say_what_came,
    senders_of,
    what_starts,
)
from runs.views.forms.tasks import ScheduleForm, TaskForm
from teammates.access import Access
from teammates.errors import DomainError, Invalid, NotFound
from teammates.templatetags.parts import Tab
from teammates.web.pages import PageRequest, add_refusal, number_of, page_of

PAGE_SIZE = 25
LAST_RUNS = 10
DAY = timedelta(hours=24)
MOST_PER_SCHEDULE = 24  # entries of one schedule in the agenda
MOST_SCHEDULES = 200
OFTEN = 24  # times a day from which on people are warned


# --- lists --------------------------------------------------------------------------------------


def _list_tabs(here: str) -> list[Tab]:
    paths = {"Tasks": "/tasks/", "Next 24 hours": "/tasks/agenda/", "Log": "/tasks/log/"}
    return [Tab(label, url, label == here) for label, url in paths.items()]


@require_GET
def task_list(request: PageRequest) -> HttpResponse:
    """Saved tasks with what starts them next and how their last runs went."""
    query = request.GET
    sought, state = query.get("q", "").strip()[:200], query.get("state", "")
    rows = Task.objects.visible_to(request.access).saved()
    rows = rows.filter(status=state) if state in TaskStatus.values else rows.current()
    if sought:
        rows = rows.filter(name__icontains=sought)
    if mate := number_of(query.get("teammate", "")):
        rows = rows.filter(teammate=mate)
    page = page_of(request, tasks.with_names(rows), "-id", size=PAGE_SIZE)
    last = _last_runs(request.access, page.rows)
    return render(
        request,
        "runs/task_list.html",
        {
            "rows": [
                (
                    task,
                    what_starts(task),
                    _next_of(task),
                    last.get(task.pk, []),
                    _mean_cost(last.get(task.pk, [])),
                )
                for task in page.rows
            ],
            "page": page,
            "sought": sought,
            "state": state,
            "states": TaskStatus.choices,
            "is_filtered": bool(sought or state or mate),
            "tabs": _list_tabs("Tasks"),
        },
    )


_LAST_RUNS = """
SELECT one.* FROM unnest(%s::bigint[]) AS task (id) CROSS JOIN LATERAL (
    SELECT id, task_id, status, created_at, cost FROM runs_run
    WHERE task_id = task.id AND (%s OR created_by_id = %s)
    ORDER BY created_at DESC, id DESC LIMIT %s
) one
"""


def _last_runs(access: Access, shown: list[Task]) -> dict[int, list[Run]]:
    """The last runs of each task that the asker sees, oldest first. One query, whatever the number
    of runs."""
    found: dict[int, list[Run]] = {}
    who = [access.is_admin, access.user.pk if access.user else None]
    for run in Run.objects.raw(_LAST_RUNS, [[task.pk for task in shown], *who, LAST_RUNS]):
        found.setdefault(run.task_id, []).insert(0, run)
    return found


def _mean_cost(runs: list[Run]) -> Decimal | None:
    """Of those whose cost is known."""
    costs = [run.cost for run in runs if run.cost is not None]
    return sum(costs, Decimal()) / len(costs) if costs else None


def _next_of(task: Task) -> datetime | None:
    """When a schedule of the task is due next; its triggers are loaded."""
    for trigger in task.triggers.all():
        trigger.task = task
    times = [due_times.next_time(trigger) for trigger in task.triggers.all()]
    return min((at for at in times if at is not None), default=None)


@dataclass(frozen=True)
class Entry:
    """A time in the agenda; `clashes` with others of the same teammate in the same minute."""

    at: datetime
    trigger: Trigger
    clashes: bool = False

    @property
    def hour(self) -> str:
        return f"{timezone.localtime(self.at):%a %H}:00"


@require_GET
def agenda(request: PageRequest) -> HttpResponse:
    """What schedules will start within a day."""
    now = timezone.now()
    mine = Task.objects.visible_to(request.access).saved()
    schedules = (
        Trigger.objects.active().filter(task__in=mine, kind=TriggerKind.SCHEDULE).with_task()
    )
    due = schedules.exclude(next_at__gt=now + DAY).order_by("next_at", "id")
    shown = list(due[: MOST_SCHEDULES + 1])
    found: list[tuple[datetime, Trigger]] = []
    frequent: list[Trigger] = []
    for trigger in shown[:MOST_SCHEDULES]:
        times = list(islice(_within(trigger, now, DAY), MOST_PER_SCHEDULE + 1))
        if len(times) > MOST_PER_SCHEDULE:
            frequent.append(trigger)
        else:
            found += [(at, trigger) for at in times]
    minutes = Counter((at.replace(second=0), one.task.teammate_id) for at, one in found)
    entries = [
        Entry(at, one, minutes[at.replace(second=0), one.task.teammate_id] > 1)
        for at, one in sorted(found, key=lambda pair: (pair[0], pair[1].pk))
    ]
    return render(
        request,
        "runs/task_agenda.html",
        {
            "entries": entries,
            "frequent": [(one, schedule_text.in_words(one)) for one in frequent],
            "tabs": _list_tabs("Next 24 hours"),
            "now": now,
            "most": MOST_SCHEDULES if len(shown) > MOST_SCHEDULES else None,
        },
    )


@require_GET
def firing_log(request: PageRequest) -> HttpResponse:
    """Everything that was to start a run, with what came of it."""
    rows = firing.firings_seen(request.access)
    shows = request.GET.get("show", "")
    if shows in FiringStatus.values:
        rows = rows.filter(status=shows)
    page = page_of(request, rows, "-id", size=50)
    return render(
        request,
        "runs/task_log.html",
        {
            "page": page,
            "shows": shows,
            "statuses": FiringStatus.choices,
            "tabs": _list_tabs("Log"),
        },
    )


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
    return render(request, "runs/task_new.html", context, status=422 if has_errors else 200)


@require_POST
def schedule_preview(request: PageRequest) -> HttpResponse:
    """When a schedule that is not saved yet would be due, and what it would cost."""
    form = ScheduleForm(request.POST)
    draft = None
    if form.is_valid():
        try:
            draft = form.draft()
        except DomainError as error:
            add_refusal(form, error)
    # What is only not filled in yet is no mistake.
    wrong = [
        (name, errors[0])
        for name, errors in form.errors.as_data().items()
        if errors[0].code != "required"
    ]
    said = [
        text
        if name == "__all__" or text.startswith(str(form[name].label))
        else f"{form[name].label}: {text}"
        for name, text in ((name, error.messages[0]) for name, error in wrong)
    ]
    context: dict[str, Any] = {"problem": " ".join(said)}
    if draft is not None:
        task = (
            Task.objects.visible_to(request.access)
            .filter(pk=number_of(request.POST.get("task", "")) or 0)
            .first()
        )
        context |= {
            "words": schedule_text.in_words(draft),
            "dues": schedule_text.preview(draft),
            "draft": draft,
            "forecast": _forecast(draft, task) if task else None,
            "a_day": _a_day(draft),
            "mails": task.email_notifications if task else "email_notifications" in request.POST,
        }
    return render(request, "runs/_schedule_preview.html", context)


def _forecast(trigger: Trigger, task: Task) -> Decimal | None:
    """What a month of the schedule would cost, going by the task's last runs; None: not known."""
    cost = Run.objects.filter(task=task, status__in=FINISHED).aggregate(each=Avg("cost"))["each"]
    if cost is None:
        return None
    if (a_day := _a_day(trigger)) is not None:  # counting a month of every minute takes long
        return Decimal(cost) * a_day * 30
    month = _within(trigger, timezone.now(), timedelta(days=30))
    return Decimal(cost) * sum(1 for _ in month)


def _a_day(trigger: Trigger) -> int | None:
    """How often a schedule is due in the next 24 hours, where that is often."""
    times = sum(1 for _ in _within(trigger, timezone.now(), DAY))
    return times if times > OFTEN else None


def _within(trigger: Trigger, begins: datetime, span: timedelta) -> Iterator[datetime]:
    ends = begins + span
    return takewhile(lambda at: at <= ends, due_times.next_times(trigger, begins))


@require_http_methods(["GET", "POST"])
def task_detail(request: PageRequest, task_id: int) -> HttpResponse:
    """One tab of a task; posting to `setup` saves it."""
    task = _find(request, task_id)
    tab = request.GET.get("tab", "overview")
    if tab not in PARTS:
        tab = "overview"
    if request.method == "POST":
        return _save(request, task)
    return _page(request, task, tab, PARTS[tab](request, task))


def _find(request: PageRequest, task_id: int) -> Task:
    task = tasks.get_task(request.access, task_id)
    if task.is_ad_hoc:
        raise NotFound("There is no such task.")
    return task


def _page(
    request: PageRequest, task: Task, tab: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    labels = {"setup": "Set-up"}
    frame = {
        "task": task,
        "tab": tab,
        "template": f"runs/_task_{tab}.html",
        "tabs": [
            Tab(
                labels.get(name, name.title()), f"{task.get_absolute_url()}?tab={name}", name == tab
            )
            for name in PARTS
        ],
        "may_edit": tasks.may_edit(request.access, task) and not task.is_archived,
        "may_restore": tasks.may_edit(request.access, task) and task.is_archived,
    }
    return render(request, "runs/task_detail.html", frame | context, status=status)


def _overview(request: PageRequest, task: Task) -> dict[str, Any]:
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
            if one.rests_because == Rest.FAILURES
        ],
        "upcoming": sorted(upcoming, key=lambda pair: pair[0])[:10],
        "runs": runs.with_names().newest_first()[:10],
        "succeeded": states[RunStatus.COMPLETED] / total if total else None,
        "cost_per_run": runs.aggregate(each=Avg("cost"))["each"],
        "waiting": task.firings.filter(status=FiringStatus.WAITING).count(),
    }


def _history(request: PageRequest, task: Task) -> dict[str, Any]:
    rows = task.firings.select_related("task", "teammate", "run", "trigger")
    return {"page": page_of(request, rows, "-id", size=50)}


def _triggers(request: PageRequest, task: Task) -> dict[str, Any]:
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
        "reach": Reach.of_task(request, task, hook, inbox),
        "calls": task.firings.exclude(kind=TriggerKind.SCHEDULE)
        .select_related("run")
        .order_by("-id")[:50],
    }


def _lessons(request: PageRequest, task: Task) -> dict[str, Any]:
    return {"lessons": lessons.lessons_of(task), "capacity": lessons.MOST_LESSONS}


def _setup(request: PageRequest, task: Task) -> dict[str, Any]:
    return {"form": TaskForm(request.access, initial=TaskForm.now(task))}


PARTS: dict[str, Callable[[PageRequest, Task], dict[str, Any]]] = {
    "overview": _overview,
    "history": _history,
    "triggers": _triggers,
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
    return _page(request, task, "setup", {"form": form}, status=422)


# --- acts ---------------------------------------------------------------------------------------


@require_POST
def task_act(request: PageRequest, task_id: int) -> HttpResponse:
    """Run now, pause, wake, duplicate, archive."""
    access, task = request.access, _find(request, task_id)
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
        case "pause" | "wake" as act:
            tasks.update_task(access, task, enabled=act == "wake")
            rests = "is paused: its schedules rest, its webhook and its mail are switched off"
            messages.success(request, f"{task.name} {rests if act == 'pause' else 'works again'}.")
        case "duplicate":
            copy = definitions.duplicate_task(access, task)
            messages.success(request, "This is the copy. Its schedules are paused: look at them.")
            return redirect(f"{copy.get_absolute_url()}?tab=triggers")
        case "archive":
            tasks.archive_task(access, task)
            messages.success(request, f"{task.name} is archived; its runs stay.")
            return redirect("runs:task_list")
        case "restore":
            tasks.restore_task(access, task)
            messages.success(request, "It is back, paused. Look at its triggers: they are off.")
            return redirect(task)
        case _:
            raise Invalid("Choose what to do.")
    return redirect(request.headers.get("Referer") or task)


@require_http_methods(["GET", "POST"])
def schedule_edit(
    request: PageRequest, task_id: int, trigger_id: int | None = None
) -> HttpResponse:
    """A schedule, new or changed, beside a preview of its next times."""
    access, task = request.access, _find(request, task_id)
    tasks.require_editor(access, task)
    trigger = definitions.get_trigger(task, f"schedule_{trigger_id}") if trigger_id else None
    now = ScheduleForm.now(trigger, access.organization.timezone)
    form = ScheduleForm(request.POST or None, initial=now)
    if request.method == "POST" and form.is_valid():
        try:
            if trigger is None:
                definitions.add_schedule(access, task, **form.timing())
            elif changes := form.changes():
                definitions.update_trigger(access, task, trigger, **changes)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, "The schedule is saved.")
            return redirect(f"{task.get_absolute_url()}?tab=triggers")
    context: dict[str, Any] = {"task": task, "form": form, "trigger": trigger}
    if not form.is_bound:
        draft = trigger or Trigger(
            kind="schedule", cron="0 9 * * 1-5", timezone=access.organization.timezone
        )
        context |= {
            "words": schedule_text.in_words(draft),
            "dues": schedule_text.preview(draft),
            "draft": draft,
            "forecast": _forecast(draft, task),
            "a_day": _a_day(draft),
            "mails": task.email_notifications,
        }
    return render(request, "runs/schedule_edit.html", context, status=422 if form.errors else 200)


@require_POST
def trigger_act(request: PageRequest, task_id: int) -> HttpResponse:
    """Pause, wake or remove a schedule; everything about the webhook and the inbox."""
    access, task = request.access, _find(request, task_id)
    act, live = request.POST.get("act", ""), ""
    match act:
        case "pause" | "wake" | "delete":
            trigger = definitions.get_trigger(task, request.POST.get("trigger", ""))
            if act == "delete":
                definitions.delete_trigger(access, task, trigger)
            else:
                definitions.update_trigger(access, task, trigger, enabled=act == "wake")
            said = {"pause": "paused", "wake": "on again", "delete": "removed"}[act]
            messages.success(request, f"The schedule is {said}.")
        case "hook_make":
            live = hook_address(
                request, "tasks", task.pk, definitions.make_webhook(access, task)[1]
            )
        case "hook_pause" | "hook_wake":
            definitions.pause_webhook(access, task, paused=act == "hook_pause")
        case "hook_remove":
            definitions.remove_webhook(access, task)
            messages.success(request, "The webhook is gone; its log stays.")
        case "hook_sample":
            tasks.require_editor(access, task)
            hook = definitions.webhook_of(task)
            if hook is None:
                raise NotFound("There is no webhook yet.")
            got = inbound_webhook.send_sample(hook, SAMPLE)
            say_what_came(request, got.firing)
        case "inbox_on":
            definitions.open_inbox(access, task, allowed_senders=None)
            messages.success(request, "The address takes mails.")
        case "inbox_off":
            definitions.close_inbox(access, task)
            messages.success(request, "The address is gone.")
        case "inbox_senders":
            try:
                definitions.allow_senders(access, task, senders_of(request))
            except Invalid as error:
                context = _triggers(request, task)
                context["reach"] = refuse_senders(request, context["reach"], error)
                return _page(request, task, "triggers", context, status=422)
            messages.success(request, "Saved who may write to it.")
        case _:
            raise Invalid("Choose what to do.")
    if live:
        fresh = _find(request, task_id)
        return _page(request, fresh, "triggers", _triggers(request, fresh) | {"live": live})
    return redirect(f"{task.get_absolute_url()}?tab=triggers")


@require_POST
def lesson_act(request: PageRequest, task_id: int) -> HttpResponse:
    """Forget one lesson, or all."""
    access, task = request.access, _find(request, task_id)
    if lesson := request.POST.get("lesson", ""):
        lessons.forget_lesson(access, task, lesson)
    else:
        lessons.clear_lessons(access, task)
    messages.success(request, "Forgotten.")
    return redirect(f"{task.get_absolute_url()}?tab=lessons")
