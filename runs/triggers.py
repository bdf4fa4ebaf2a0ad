"""What starts a task by itself: its schedules, its webhook, its inbox; made, changed, listed."""

import secrets
from typing import Any, NoReturn

from django.db import transaction

from runs import schedules, tasks
from runs.models import Task, TaskStatus, Trigger, TriggerKind
from teammates import hooks, roster, servers
from teammates.access import Access
from teammates.errors import Conflict, Invalid, NotFound, Unsuitable
from teammates.models import Teammate

MOST_TRIGGERS = 50  # of a task


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
        task = tasks.create_task(access, teammate, **fields)
        if schedule is not None:
            add_schedule(access, task, cron=schedule, timezone=timezone)
        return task, make_webhook(access, task)[1] if webhook else None


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
        locked = tasks.lock(access, task)
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
        locked = tasks.lock(access, task)
        _require_startable(locked)
        trigger, _ = Trigger.objects.get_or_create(task=locked, kind=TriggerKind.WEBHOOK)
        token = hooks.make_token(trigger)
        _set(trigger, enabled=True, **{name: getattr(trigger, name) for name in hooks.FIELDS})
    return trigger, token


def pause_webhook(access: Access, task: Task, *, paused: bool) -> Trigger | None:
    """Raises `Unsuitable` if there is none to wake; pausing none is fine, and None."""
    with transaction.atomic():
        locked = tasks.lock(access, task)
        trigger = webhook_of(locked)
        if not paused:
            _require_startable(locked)
        hooks.pause(trigger or Trigger(), paused=paused)
        if trigger is not None:
            _set(trigger, enabled=not paused, hook_enabled=not paused)
    return trigger


def remove_webhook(access: Access, task: Task) -> None:
    """Destroy the webhook; again is fine."""
    tasks.require_editor(access, task)
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
        locked = tasks.lock(access, task)
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
    tasks.require_editor(access, task)
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
        locked = tasks.lock(access, task)
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
