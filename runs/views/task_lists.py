"""Pages of all tasks: the list, what starts next, and what happened."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from runs.models import (
    FiringStatus,
    Run,
    Task,
    TaskStatus,
    Trigger,
    TriggerKind,
)
from runs.tasks import tasks
from runs.triggers import due_times, history, schedule_text
from runs.triggers.due_times import times_within
from runs.views.channels import (
    what_starts,
)
from teammates.access import Access
from teammates.templatetags.parts import Tab
from teammates.web.pages import PageRequest, number_of, page_of

PAGE_SIZE = 25
LAST_RUNS = 10
DAY = timedelta(hours=24)
MOST_PER_SCHEDULE = 24  # entries of one schedule in the agenda
MOST_SCHEDULES = 200


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
    if teammate_id := number_of(query.get("teammate", "")):
        rows = rows.filter(teammate=teammate_id)
    page = page_of(request, tasks.for_list(rows), "-id", size=PAGE_SIZE)
    last = _last_runs(request.access, page.rows)
    return render(
        request,
        "tasks/task_list.html",
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
            "is_filtered": bool(sought or state or teammate_id),
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
        times = list(islice(times_within(trigger, now, DAY), MOST_PER_SCHEDULE + 1))
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
        "tasks/task_agenda.html",
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
    rows = history.firings_seen(request.access)
    shows = request.GET.get("show", "")
    if shows in FiringStatus.values:
        rows = rows.filter(status=shows)
    page = page_of(request, rows, "-id", size=50)
    return render(
        request,
        "tasks/task_log.html",
        {
            "page": page,
            "shows": shows,
            "statuses": FiringStatus.choices,
            "tabs": _list_tabs("Log"),
        },
    )
