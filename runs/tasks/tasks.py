"""Saved work. What starts it by itself is in `runs.triggers`."""

from dataclasses import replace
from typing import Any

from django.db import transaction
from django.utils import timezone

from runs.models import Task, TaskStatus, TriggerKind
from runs.models.task import TaskQuerySet
from teammates.access import Access, take_over
from teammates.errors import Forbidden, Invalid, NotFound, Unsuitable
from teammates.integrations import server_lookup
from teammates.llm import catalog
from teammates.models import Effort, EndUser, PermissionMode, Teammate
from teammates.roster import lookup
from teammates.trust import audit
from teammates.types import JSON

LONGEST_TEXT = 100_000  # characters
LONGEST_NAME = 255
NAMED_BY = 100  # characters of the instructions


@audit.recorded("task.create", makes=Task)
def create_task(
    access: Access,
    teammate: Teammate,
    *,
    instructions: str,
    name: str | None = None,
    end_user: EndUser | None = None,
    **fields: Any,
) -> Task:
    """Save work for a teammate, in the teammate's scope if it has one.

    Raises `Invalid`, `NotFound` if that is another end user's, or the teammate is archived.
    """
    access.require("data.runs.write")
    lookup.refuse_archived(teammate)
    if teammate.end_user_id is not None:
        if end_user is not None and end_user.pk != teammate.end_user_id:
            raise NotFound("There is no such teammate.", code="teammates.not_found")
        end_user = teammate.end_user
    replace(access, end_user=end_user).require_scope()
    task = Task(
        organization=access.organization,
        teammate=teammate,
        end_user=end_user,
        created_by=access.user,
        api_key=access.limited_key,
    )
    _apply(task, {"instructions": instructions, "name": name, **fields})
    task.save()
    return task


@audit.recorded("task.update")
def update_task(access: Access, task: Task, *, enabled: bool | None = None, **changes: Any) -> Task:
    """Change what is given. A paused task's schedules rest with it; what else starts it is
    switched off, and people switch it on again.

    Raises `Invalid`, and `NotFound` for an archived task.
    """
    with transaction.atomic():
        locked = lock(access, task)
        _apply(locked, changes)
        is_resumed = enabled and not locked.is_enabled
        if enabled is not None:
            locked.status = TaskStatus.ENABLED if enabled else TaskStatus.DISABLED
        locked.save()
        if enabled:
            take_over(access, locked)
        if is_resumed:
            # What was due while it rested is past: times count from now on.
            locked.triggers.filter(kind=TriggerKind.SCHEDULE).reschedule()
        elif enabled is False:
            events = locked.triggers.exclude(kind=TriggerKind.SCHEDULE)
            events.update(enabled=False, hook_enabled=False)
    return locked


@audit.recorded("task.archive")
def archive_task(access: Access, task: Task) -> None:
    """Archive a task; again is fine. Nothing starts it any more, its runs stay."""
    require_editor(access, task)
    with transaction.atomic():
        current = Task.objects.current().filter(pk=task.pk)
        now = timezone.now()
        if current.update(status=TaskStatus.ARCHIVED, archived_at=now, updated_at=now):
            task.triggers.update(enabled=False, hook_enabled=False)
    task.refresh_from_db()


@audit.recorded("task.restore")
def restore_task(access: Access, task: Task) -> None:
    """Bring an archived task back, paused, and what starts it switched off. Raises `Unsuitable` if
    it is not archived."""
    require_editor(access, task)
    archived = Task.objects.filter(pk=task.pk, status=TaskStatus.ARCHIVED)
    now = timezone.now()
    if not archived.update(status=TaskStatus.DISABLED, archived_at=None, updated_at=now):
        raise Unsuitable("This task is not archived.", code="not_archived")
    task.refresh_from_db()


def get_task(access: Access, task_id: int) -> Task:
    """A task, saved or of a single run. Raises `NotFound`."""
    found: Task | None = for_list(Task.objects.visible_to(access)).filter(pk=task_id).first()
    if found is None:
        raise NotFound("There is no such task.", code="tasks.not_found")
    return found


def for_list(tasks: TaskQuerySet) -> TaskQuerySet:
    """Everything that a row of a list shows, in two queries."""
    return tasks.select_related(
        "teammate", "end_user", "organization", "created_by"
    ).prefetch_related("triggers")


def lock(access: Access, task: Task) -> Task:
    """The task's row, locked, for whoever may change it, and stands for it from now on."""
    require_editor(access, task)
    locked = (
        Task.objects.select_for_update(of=("self",), no_key=True)
        .select_related("teammate", "end_user", "organization", "created_by", "api_key")
        .get(pk=task.pk)
    )
    if locked.is_archived:
        raise NotFound("This task is archived.", code="tasks.not_found")
    if locked.api_key != access.limited_key:
        locked.api_key = access.limited_key
        locked.save(update_fields=["api_key"])
    return locked


def may_edit(access: Access, task: Task) -> bool:
    """Whether the asker made the task, or is an admin."""
    is_theirs = task.created_by_id == getattr(access.user, "pk", None)
    return access.may("data.runs.write") and (access.is_admin or is_theirs)


def require_editor(access: Access, task: Task) -> None:
    """Raise `Forbidden` unless the asker may edit the task."""
    access.require("data.runs.write", task)
    if not may_edit(access, task):
        raise Forbidden("This task is a colleague's.")


def _apply(task: Task, fields: JSON) -> None:
    for name, value in fields.items():
        if name not in CHANGEABLE:
            raise Invalid(f"Unknown field: {name}.")
        setattr(task, name, value)
    if not task.instructions or not task.instructions.strip():
        raise Invalid("instructions must not be empty.")
    for name in ("instructions", "expected_output", "goals"):
        if len(getattr(task, name)) > LONGEST_TEXT:
            raise Invalid(f"{name} must have at most {LONGEST_TEXT} characters.")
    task.name = " ".join((task.name or task.instructions[:NAMED_BY]).split())
    if not 1 <= len(task.name) <= LONGEST_NAME:
        raise Invalid(f"name must have 1 to {LONGEST_NAME} characters.")
    if task.model:
        catalog.resolve_model(task.organization, task.model)
    for name, known in (("effort", Effort.values), ("permission_mode", PermissionMode.values)):
        if getattr(task, name) and getattr(task, name) not in known:
            raise Invalid(f"{name} must be one of {', '.join(known)}.")
    if len(task.workflow_stage) > 100:
        raise Invalid("workflow_stage must have at most 100 characters.")
    if "tools" in fields:
        server_lookup.check_tools(task.organization, task.end_user, task.tools or [])


CHANGEABLE = (
    "name",
    "instructions",
    "expected_output",
    "goals",
    "tools",
    "email_notifications",
    "workflow_stage",
    "model",
    "effort",
    "permission_mode",
    "memory",
    "history",
    "task_setup_tools",
    "feedback",
    "learns",
)
