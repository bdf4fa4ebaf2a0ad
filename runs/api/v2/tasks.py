"""v2: tasks, what starts them, what they learned (contract v2 2.3)."""

from typing import Annotated, Any, Literal

from django.http import HttpResponse
from ninja import Router, Status
from pydantic import Field

from runs.api.v2.shared import MADE, RunOptionsIn, answer, options_of
from runs.creation import idempotency, requests
from runs.models import Lesson, Task, Trigger, TriggerKind
from runs.tasks import lessons, tasks
from runs.triggers import definitions
from teammates.access import Access
from teammates.api.schemas import (
    ApiRequest,
    Input,
    Limit,
    address_of,
    changes_of,
    iso,
    paged,
    whole,
)
from teammates.api.scopes import scoped
from teammates.errors import Invalid
from teammates.people import end_users
from teammates.roster import lookup, webhook_tokens
from teammates.roster.templates import CATALOG
from teammates.types import JSON

router = Router(tags=["tasks"])


class TaskFields(Input):
    name: str | None = None
    instructions: str | None = None
    tools: list[str] | None = None
    expected_output: str | None = None
    goals: str | None = None
    email_notifications: bool | None = None
    model: str | None = None
    effort: str | None = None
    permission_mode: str | None = None
    enable_memory: bool | None = None
    enable_history: bool | None = None
    enable_task_setup_tools: bool | None = None
    enable_feedback: bool | None = None
    enable_lessons: bool | None = None
    workflow_stage: str | None = None


class TaskCreate(TaskFields):
    teammate_id: int
    instructions: Annotated[str, Field(min_length=1)]
    user_id: str | None = None
    webhook: bool = False
    schedule: str | None = None
    schedule_timezone: str = "UTC"


class TaskUpdate(TaskFields):
    status: Literal["enabled", "disabled"] | None = None


class TaskRunIn(RunOptionsIn):
    pass  # the message is the task's


class TimingFields(Input):
    cron: str | None = None
    interval_seconds: int | None = None
    run_at: str | None = None


class RuleFields(Input):
    """Ours: what happens when it cannot be as planned."""

    overlap: Literal["skip", "queue", "allow", "cancel"] | None = None
    missed: Literal["latest", "all", "none"] | None = None
    missed_limit: int | None = None
    failure_limit: int | None = None


# Our words for the wire's, where they differ.
WIRE = {
    "enable_memory": "memory",
    "enable_history": "history",
    "enable_task_setup_tools": "task_setup_tools",
    "enable_feedback": "feedback",
    "enable_lessons": "learns",
}
# null means: back to the default.
CLEARED: JSON = {
    "model": "",
    "effort": "",
    "permission_mode": "",
    "memory": None,
    "history": None,
    "task_setup_tools": None,
    "feedback": None,
    "learns": True,
    "tools": None,
    "expected_output": "",
    "goals": "",
    "workflow_stage": "",
}
# Of a new task: what is no field of its own.
ARMING = {"teammate_id", "user_id", "webhook", "schedule", "schedule_timezone"}


# --- tasks --------------------------------------------------------------------------------------
@router.post("/tasks", response={201: JSON})
def create_task(request: ApiRequest, payload: TaskCreate) -> Status[JSON]:
    """Save work for a teammate; with `schedule` it gets its first trigger, with `webhook` the
    answer has the live `webhook_url`, which is not shown again."""
    access: Access = request.auth
    access.require("data.runs.write")
    teammate = lookup.get_teammate(access, payload.teammate_id)
    if teammate.end_user is None:
        access.for_end_user(payload.user_id).require_end_user()
    end_user = None
    if payload.user_id is not None:
        end_user = end_users.find_or_create(access, payload.user_id)
    task, token = definitions.create_task_with_triggers(
        access,
        teammate,
        end_user=end_user,
        schedule=payload.schedule,
        timezone=payload.schedule_timezone,
        webhook=payload.webhook,
        **changes_of(payload, WIRE, CLEARED, without=ARMING),
    )
    shown = task_out(task)
    if token is not None:
        shown["webhook_url"] = address_of(request) + webhook_tokens.path("tasks", task.pk, token)
    return Status(201, shown)


@router.get("/tasks")
def list_tasks(
    request: ApiRequest,
    teammate_id: int | None = None,
    user_id: str | None = None,
    include_archived: bool = False,
    limit: Limit = 20,
    starting_after: int | None = None,
) -> JSON:
    """Saved tasks, newest first; archived ones only if asked for."""
    found = Task.objects.visible_to(scoped(request, user_id)).saved()
    if teammate_id is not None:
        found = found.filter(teammate=teammate_id)
    if not include_archived:
        found = found.current()
    return paged(tasks.for_list(found).order_by("-id"), limit, starting_after, task_out)


@router.get("/tasks/{task_id}")
def get_task(request: ApiRequest, task_id: int, user_id: str | None = None) -> JSON:
    return task_out(tasks.get_task(scoped(request, user_id), task_id))


@router.patch("/tasks/{task_id}")
def update_task(
    request: ApiRequest, task_id: int, payload: TaskUpdate, user_id: str | None = None
) -> JSON:
    """Change what is given; null clears."""
    task = find_task(request, task_id, user_id)
    enabled = None if payload.status is None else payload.status == "enabled"
    changes = changes_of(payload, WIRE, CLEARED, without={"status"})
    tasks.update_task(request.auth, task, enabled=enabled, **changes)
    return task_out(tasks.get_task(request.auth, task.pk))


@router.delete("/tasks/{task_id}", response={204: None})
def archive_task(request: ApiRequest, task_id: int, user_id: str | None = None) -> Status[None]:
    """Archive; again is fine."""
    tasks.archive_task(request.auth, find_task(request, task_id, user_id))
    return Status(204, None)


@router.post("/tasks/{task_id}/runs", response=MADE)
def run_task(
    request: ApiRequest,
    task_id: int,
    response: HttpResponse,
    payload: TaskRunIn | None = None,
) -> Any:
    """Start the task now: a stream of events, or with `stream: false` the run itself to poll."""
    payload = payload or TaskRunIn()
    task = tasks.get_task(request.auth, task_id)
    body = payload.dict(exclude={"stream"})
    run, is_replay = idempotency.create_idempotently(
        request.auth,
        request.headers.get("Idempotency-Key"),
        ["v2 task", task_id, body],
        lambda: requests.run_task(
            request.auth, task, options=options_of(body), user_id=payload.user_id
        ),
    )
    return answer(request, response, run, stream=payload.stream, is_replay=is_replay)


# --- lessons ------------------------------------------------------------------------------------
@router.get("/tasks/{task_id}/lessons")
def list_lessons(request: ApiRequest, task_id: int, user_id: str | None = None) -> JSON:
    """What the task's runs left for later ones."""
    return lessons_out(find_task(request, task_id, user_id))


@router.delete("/tasks/{task_id}/lessons/{lesson_id}")
def delete_lesson(
    request: ApiRequest, task_id: int, lesson_id: str, user_id: str | None = None
) -> JSON:
    """Forget one; the answer is what is left."""
    task = find_task(request, task_id, user_id)
    lessons.forget_lesson(request.auth, task, lesson_id)
    return lessons_out(task)


@router.post("/tasks/{task_id}/lessons:clear")
def clear_lessons(
    request: ApiRequest, task_id: int, confirm: bool = False, user_id: str | None = None
) -> JSON:
    """Forget all lessons; `confirm=true` says that it is meant. Again is fine."""
    task = find_task(request, task_id, user_id)
    if not confirm:
        raise Invalid("confirm=true is required: all lessons of the task would be forgotten.")
    lessons.clear_lessons(request.auth, task)
    return lessons_out(task)


# --- shared -------------------------------------------------------------------------------------
def find_task(request: ApiRequest, task_id: int, user_id: str | None) -> Task:
    return tasks.get_task(request.auth.for_end_user(user_id), task_id)


def masked_url(request: ApiRequest, trigger: Trigger) -> str | None:
    path = webhook_tokens.masked_path("tasks", trigger.task_id, trigger)
    return path and address_of(request) + path


def _is_modified(task: Task) -> bool:
    """Whether a task that came with a template is no longer as the template has it."""
    template = CATALOG.get(task.teammate.template_slug)
    starters = {one.slug: one for one in template.tasks} if template else {}
    starter = starters.get(task.template_task_slug)
    return starter is not None and (starter.instructions, starter.name) != (
        task.instructions,
        task.name,
    )


def task_out(task: Task) -> JSON:
    """A task with every key of contract v2 2.3."""
    webhook = definitions.webhook_of(task)
    return {
        "id": task.pk,
        "teammate_id": task.teammate_id,
        "name": task.name,
        "instructions": task.instructions,
        "tools": task.tools or [],
        "expected_output": task.expected_output or None,
        "goals": task.goals or None,
        "user_id": task.end_user.external_id if task.end_user else None,
        "status": task.status,
        "created_at": iso(task.created_at),
        "updated_at": iso(task.updated_at),
        "app_trigger_count": sum(one.kind == TriggerKind.APP for one in task.triggers.all()),
        "permission_mode": task.permission_mode or None,
        "source": "run" if task.is_ad_hoc else "template" if task.template_task_slug else "user",
        "workflow_stage": task.workflow_stage or None,
        "is_bootstrap": False,
        "email_notifications": task.email_notifications,
        "webhook_url": None,
        "webhook_enabled": webhook is not None and webhook.enabled,
        "source_template_task_slug": task.template_task_slug or None,
        "is_modified": _is_modified(task),
        "user_recommends_removal": False,
        "enable_memory": task.memory,
        "enable_history": task.history,
        "enable_task_setup_tools": task.task_setup_tools,
        "enable_feedback": task.feedback,
        "enable_lessons": task.learns,
        "model": task.model or None,
        "effort": task.effort or None,
    }


def lessons_out(task: Task) -> JSON:
    found = lessons.lessons_of(task)
    return whole([lesson_out(lesson) for lesson in found]) | {
        "capacity_used": len(found),
        "capacity_limit": lessons.MOST_LESSONS,
    }


def lesson_out(lesson: Lesson) -> JSON:
    return {
        "id": str(lesson.pk),
        "text": lesson.text,
        "when_applicable": lesson.when_applicable,
        "created_at": iso(lesson.created_at),
        "last_reaffirmed_at": iso(lesson.last_reaffirmed_at),
        "source_run_id": lesson.source_run_id,
        "reaffirm_count": lesson.reaffirm_count,
    }
