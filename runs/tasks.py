"""Tasks: saved work, the triggers that start it, and the lessons of its runs."""

import secrets
from typing import Any, NoReturn

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from runs import schedules
from runs.models import Lesson, Run, Task, TaskStatus, Trigger, TriggerKind
from teammates import connections, hooks, roster, servers
from teammates.access import Access
from teammates.errors import Conflict, Forbidden, Invalid, NotFound, Unsuitable
from teammates.models import Effort, EndUser, PermissionMode, Teammate

LONGEST_TEXT = 100_000  # characters
NAMED_BY = 100  # characters of the instructions
MOST_LESSONS = 50  # of a task
MOST_TRIGGERS = 50  # of a task


# --- tasks --------------------------------------------------------------------------------------


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
    roster.refuse_archived(teammate)
    if teammate.end_user_id is not None:
        if end_user is not None and end_user.pk != teammate.end_user_id:
            raise NotFound("There is no such teammate.", code="teammates.not_found")
        end_user = teammate.end_user
    task = Task(
        organization=access.organization, teammate=teammate, end_user=end_user,
        created_by=access.user,
    )  # fmt: skip
    _apply(task, {"instructions": instructions, "name": name, **fields})
    task.save()
    return task


def create_armed_task(
    access: Access,
    teammate: Teammate,
    *,
    schedule: str | None = None,
    timezone: str = "UTC",
    webhook: bool = False,
    **fields: Any,
) -> tuple[Task, str | None]:
    """A task with what starts it, all or nothing; with the token of its webhook, shown once."""
    with transaction.atomic():
        task = create_task(access, teammate, **fields)
        if schedule is not None:
            add_schedule(access, task, cron=schedule, timezone=timezone)
        return task, make_webhook(access, task)[1] if webhook else None


def update_task(access: Access, task: Task, *, enabled: bool | None = None, **changes: Any) -> Task:
    """Change what is given. A paused task's schedules rest with it; what else starts it is
    switched off, and people switch it on again.

    Raises `Invalid`, and `NotFound` for an archived task.
    """
    with transaction.atomic():
        locked = _locked(access, task)
        _apply(locked, changes)
        if enabled is not None:
            locked.status = TaskStatus.ENABLED if enabled else TaskStatus.DISABLED
        locked.save()
        if enabled is False:
            events = locked.triggers.exclude(kind=TriggerKind.SCHEDULE)
            events.update(enabled=False, hook_enabled=False)
    return locked


def archive_task(access: Access, task: Task) -> None:
    """Put a task away; again is fine. Nothing starts it any more, its runs stay."""
    _require_editor(access, task)
    with transaction.atomic():
        current = Task.objects.current().filter(pk=task.pk)
        now = timezone.now()
        if current.update(status=TaskStatus.ARCHIVED, archived_at=now, updated_at=now):
            task.triggers.update(enabled=False, hook_enabled=False)
    task.refresh_from_db()


def get_task(access: Access, task_id: int) -> Task:
    """A task, saved or of a single run. Raises `NotFound`."""
    found: Task | None = with_names(Task.objects.visible_to(access)).filter(pk=task_id).first()
    if found is None:
        raise NotFound("There is no such task.", code="tasks.not_found")
    return found


def with_names(tasks: Any) -> Any:
    """Everything that a row of a list shows, in two queries."""
    return tasks.select_related("teammate", "end_user", "organization").prefetch_related("triggers")


def _locked(access: Access, task: Task) -> Task:
    """The task's row, locked, for whoever may change it."""
    _require_editor(access, task)
    locked = (
        Task.objects.select_for_update(of=("self",), no_key=True)
        .select_related("teammate", "end_user", "organization")
        .get(pk=task.pk)
    )
    if locked.is_archived:
        raise NotFound("This task is archived.", code="tasks.not_found")
    return locked


def _require_editor(access: Access, task: Task) -> None:
    access.require("data.runs.write")
    if not access.is_admin and task.created_by_id != getattr(access.user, "pk", None):
        raise Forbidden("This task is a colleague's.")


def _apply(task: Task, fields: dict[str, Any]) -> None:
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
    if not 1 <= len(task.name) <= 255:
        raise Invalid("name must have 1 to 255 characters.")
    if task.model:
        connections.resolve_model(task.organization, task.model)
    for name, known in (("effort", Effort.values), ("permission_mode", PermissionMode.values)):
        if getattr(task, name) and getattr(task, name) not in known:
            raise Invalid(f"{name} must be one of {', '.join(known)}.")
    if len(task.workflow_stage) > 100:
        raise Invalid("workflow_stage must have at most 100 characters.")
    if "tools" in fields:
        servers.check_tools(task.organization, task.end_user, task.tools or [])


CHANGEABLE = (
    "name", "instructions", "expected_output", "goals", "tools", "email_notifications",
    "workflow_stage", "model", "effort", "permission_mode", "memory", "history",
    "task_setup_tools", "feedback", "learns",
)  # fmt: skip


# --- triggers -----------------------------------------------------------------------------------


def add_schedule(access: Access, task: Task, *, timezone: str = "UTC", **timing: Any) -> Trigger:
    """`timing`: one of `schedules.TIMINGS`. Raises `Invalid`, `Unsuitable` for a paused task."""
    schedules.check_timezone(timezone)
    checked = schedules.checked_timing(**timing)
    return _add_trigger(access, task, TriggerKind.SCHEDULE, timezone=timezone, **checked)


def refuse_event(app: str, event: str) -> NoReturn:
    """An app's event. Raises `NotFound` for an unknown app, `Invalid` for an event it has not."""
    known = servers.get_app(app)
    raise Invalid(
        f"trigger_name: {known.display_name} has no event {event!r}; no app here starts tasks by "
        "itself. Use a webhook."
    )


def open_inbox(access: Access, task: Task, *, allowed_senders: list[str] | None) -> Trigger:
    """An address whose mails start the task; again is the same address."""
    for sender in allowed_senders or []:
        roster.check_sender(sender)
    with transaction.atomic():
        locked = _locked(access, task)
        if allowed_senders is not None:
            locked.allowed_senders = allowed_senders
            locked.save(update_fields=["allowed_senders", "updated_at"])
        _require_startable(locked)
        trigger, _ = Trigger.objects.get_or_create(
            task=locked, kind=TriggerKind.EMAIL, defaults={"inbox_name": secrets.token_hex(8)}
        )
        _set(trigger, enabled=True)
    return trigger


def make_webhook(access: Access, task: Task) -> tuple[Trigger, str]:
    """Give a task a webhook, or its webhook a new token; returns the token, shown once."""
    with transaction.atomic():
        locked = _locked(access, task)
        _require_startable(locked)
        trigger, _ = Trigger.objects.get_or_create(task=locked, kind=TriggerKind.WEBHOOK)
        token = hooks.make_token(trigger)
        _set(trigger, enabled=True, **{name: getattr(trigger, name) for name in hooks.FIELDS})
    return trigger, token


def pause_webhook(access: Access, task: Task, *, paused: bool) -> Trigger | None:
    """Raises `Unsuitable` if there is none to wake; pausing none is fine, and None."""
    with transaction.atomic():
        locked = _locked(access, task)
        trigger = webhook_of(locked)
        if not paused:
            _require_startable(locked)
        hooks.pause(trigger or Trigger(), paused=paused)
        if trigger is not None:
            _set(trigger, enabled=not paused, hook_enabled=not paused)
    return trigger


def remove_webhook(access: Access, task: Task) -> None:
    """Destroy the webhook; again is fine."""
    _require_editor(access, task)
    task.triggers.filter(kind=TriggerKind.WEBHOOK).delete()


def webhook_of(task: Task) -> Trigger | None:
    return next((one for one in task.triggers.all() if one.kind == TriggerKind.WEBHOOK), None)


def update_trigger(
    access: Access, task: Task, trigger: Trigger, *, enabled: bool | None = None, **changes: Any
) -> Trigger:
    """Pause or wake a trigger, or give a schedule another time or timezone.

    Raises `Invalid`, `Unsuitable` for waking one of a paused or archived task.
    """
    with transaction.atomic():
        locked = _locked(access, task)
        fields: dict[str, Any] = {}
        if changes and trigger.kind != TriggerKind.SCHEDULE:
            raise Invalid(f"{', '.join(sorted(changes))}: only a schedule has this.")
        if (zone := changes.pop("timezone", None)) is not None:
            schedules.check_timezone(zone)
            fields["timezone"] = zone
        if changes:
            fields |= schedules.checked_timing(**changes)
        if enabled is not None:
            if enabled:
                _require_startable(locked)
            fields["enabled"] = enabled
            if trigger.kind == TriggerKind.WEBHOOK:
                fields["hook_enabled"] = enabled
        if not fields:
            raise Invalid("Give enabled, a time, or timezone.")
        _set(trigger, **fields)
        trigger.task = locked
    return trigger


def delete_trigger(access: Access, task: Task, trigger: Trigger) -> None:
    """Raises `Invalid` for the webhook and the inbox, which have routes of their own."""
    _require_editor(access, task)
    if trigger.kind in (TriggerKind.WEBHOOK, TriggerKind.EMAIL):
        raise Invalid(
            f"The {trigger.kind} trigger is not deleted here: use the task's own route for it."
        )
    trigger.delete()


def get_trigger(task: Task, wire_id: str) -> Trigger:
    """By its wire id, as `schedule_7` or `webhook`. Raises `NotFound`, `Invalid` for a number."""
    kind, number = read_trigger_id(wire_id)
    triggers = task.triggers.filter(kind=kind)
    found = (triggers.filter(pk=number) if number else triggers).first()
    if found is None:
        raise NotFound("The task has no such trigger.", code="triggers.not_found")
    return found


def read_trigger_id(wire_id: str) -> tuple[str, int | None]:
    """Kind and number. Raises `Invalid` for a bare number, `NotFound` for what is no id."""
    kind, _, number = wire_id.partition("_")
    if wire_id in (TriggerKind.WEBHOOK, TriggerKind.EMAIL):
        return wire_id, None
    is_number = number.isascii() and number.isdigit() and len(number) < 19
    if kind in (TriggerKind.SCHEDULE, TriggerKind.APP) and is_number:
        return kind, int(number)
    if wire_id.isdigit():
        raise Invalid(f"trigger_id: {wire_id[:20]} must name its kind, as schedule_{wire_id[:20]}.")
    raise NotFound("The task has no such trigger.", code="triggers.not_found")


def wire_id(trigger: Trigger) -> str:
    if trigger.kind in (TriggerKind.WEBHOOK, TriggerKind.EMAIL):
        return trigger.kind
    return f"{trigger.kind}_{trigger.pk}"


def list_triggers(access: Access, *, after: str | None = None, **filters: Any) -> Any:
    """Of all saved tasks that the asker sees, newest task and trigger first.

    `after`: the cursor `task:trigger` of the last one. Raises `Invalid` for a malformed one.
    """
    triggers = Trigger.objects.filter(
        task__in=Task.objects.visible_to(access).current().saved(), **filters
    )
    if after is not None:
        task_id, _, last = after.partition(":")
        if not task_id.isdecimal() or len(task_id) > 18 or not last:
            raise Invalid("starting_after must be task:trigger, as 7:schedule_10.")
        kind, number = read_trigger_id(last)
        if number is None:
            known = Trigger.objects.filter(
                task_id=int(task_id), kind=kind, task__organization=access.organization
            )
            number = known.values_list("pk", flat=True).first() or 0
        triggers = triggers.exclude(task_id__gt=int(task_id)).exclude(
            task_id=int(task_id), pk__gte=number
        )
    return triggers.select_related("task__teammate", "task__organization").order_by(
        "-task_id", "-id"
    )


def _add_trigger(access: Access, task: Task, kind: TriggerKind, **fields: Any) -> Trigger:
    with transaction.atomic():
        locked = _locked(access, task)
        _require_startable(locked)
        if locked.triggers.count() >= MOST_TRIGGERS:
            raise Conflict(
                f"A task has at most {MOST_TRIGGERS} triggers.", code="triggers.capacity"
            )
        return Trigger.objects.create(task=locked, kind=kind, **fields)


def _require_startable(task: Task) -> None:
    if task.status != TaskStatus.ENABLED or not task.teammate.is_enabled:
        raise Unsuitable(
            "The task or its teammate is paused; enable it before something may start it.",
            code="task_disabled",
        )


def _set(trigger: Trigger, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(trigger, name, value)
    trigger.save(update_fields=list(fields))


# --- lessons ------------------------------------------------------------------------------------


def learn(run: Run, text: str, when_applicable: str = "") -> Lesson:
    """Keep what a run found out for later runs of its task; the same again affirms it.

    A full task forgets the lesson that was affirmed longest ago. Call inside the run's
    transaction. Raises `Unsuitable` where the task keeps none.
    """
    if run.task.is_ad_hoc or not run.task.learns:
        raise Unsuitable("Only runs of a saved task that learns keep lessons.")
    text = " ".join(text.split())
    now = timezone.now()
    Task.objects.select_for_update(no_key=True).get(pk=run.task_id)
    known = Lesson.objects.filter(task_id=run.task_id, text=text)
    if known.update(reaffirm_count=F("reaffirm_count") + 1, last_reaffirmed_at=now):
        return known.get()
    oldest = Lesson.objects.filter(task_id=run.task_id).order_by("-last_reaffirmed_at", "-id")
    for extra in oldest[MOST_LESSONS - 1 :]:
        extra.delete()
    return Lesson.objects.create(
        task_id=run.task_id, text=text, when_applicable=when_applicable, source_run_id=run.pk,
        last_reaffirmed_at=now,
    )  # fmt: skip


def lessons_of(task: Task) -> list[Lesson]:
    """What the task's runs are told, affirmed last first."""
    return list(task.lessons.order_by("-last_reaffirmed_at", "-id"))


def forget_lesson(access: Access, task: Task, lesson_id: str) -> None:
    """Raises `NotFound`."""
    _require_editor(access, task)
    is_number = lesson_id.isascii() and lesson_id.isdigit() and len(lesson_id) < 19
    if not is_number or not task.lessons.filter(pk=int(lesson_id)).delete()[0]:
        raise NotFound("The task has no such lesson.", code="lessons.not_found")


def clear_lessons(access: Access, task: Task) -> int:
    """Forget all; returns how many there were."""
    _require_editor(access, task)
    return int(task.lessons.all().delete()[0])
