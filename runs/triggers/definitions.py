"""What starts a task by itself: its schedules, its webhook, its inbox; made, changed, listed."""

import secrets
from dataclasses import replace
from typing import Any, NoReturn

from django.db import transaction
from django.utils import timezone

from config.database import database_now
from runs.models import Missed, Overlap, PauseReason, Task, Trigger, TriggerKind
from runs.tasks import tasks
from runs.triggers import due_times
from teammates.access import Access, take_over
from teammates.errors import Conflict, Invalid, NotFound, Unsuitable
from teammates.integrations import servers
from teammates.models import Teammate
from teammates.roster import addresses, lookup, webhook_tokens
from teammates.trust import audit
from teammates.types import JSON

MOST_TRIGGERS = 50  # of a task
MOST_MISSED = 100  # runs that are made up for at once
MOST_FAILURES = 100
RULES = ("overlap", "missed", "missed_limit", "failure_limit")
# Events differ from each other: each has its run, and none is held back for the last ones' sake.
OF_EVENTS: JSON = {"overlap": Overlap.ALLOW, "failure_limit": None}


def webhook_of(task: Task) -> Trigger | None:
    return _only(task, TriggerKind.WEBHOOK)


def inbox_of(task: Task) -> Trigger | None:
    return _only(task, TriggerKind.EMAIL)


def _only(task: Task, kind: TriggerKind) -> Trigger | None:
    """The one trigger of a kind of which a task has at most one."""
    return next((one for one in task.triggers.all() if one.kind == kind), None)


def create_task_with_triggers(
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


def create_task_with(
    access: Access, teammate: Teammate, *, schedule: JSON | None, **fields: Any
) -> Task:
    """A task, and if `schedule` says when, its first schedule, all or nothing."""
    with transaction.atomic():
        task = tasks.create_task(access, teammate, **fields)
        if schedule is not None:
            add_schedule(access, task, **schedule)
    return task


def duplicate_task(access: Access, task: Task) -> Task:
    """A copy with paused copies of its schedules; its webhook and its inbox are its own. Raises
    `NotFound` once its teammate is somebody else's alone."""
    lookup.get_teammate(replace(access, end_user=None), task.teammate_id)
    with transaction.atomic():
        copy = tasks.create_task(
            access,
            task.teammate,
            end_user=task.end_user,
            **{name: getattr(task, name) for name in tasks.CHANGEABLE}
            | {"name": f"{task.name[:240]} (copy)"},
        )
        for trigger in task.triggers.filter(kind=TriggerKind.SCHEDULE).order_by("id"):
            Trigger.objects.create(
                task=copy,
                kind=trigger.kind,
                enabled=False,
                timezone=trigger.timezone,
                **{name: getattr(trigger, name) for name in (*due_times.TIMINGS, *RULES)},
            )
    return copy


@audit.recorded("trigger.create", makes=Trigger)
def add_schedule(access: Access, task: Task, *, timezone: str = "UTC", **fields: Any) -> Trigger:
    """`fields`: one of `due_times.TIMINGS`, and any of `RULES`. Raises `Invalid`, `Unsuitable` for
    a paused task."""
    due_times.check_timezone(timezone)
    rules = _checked_rules({name: fields.pop(name) for name in RULES if name in fields})
    checked = due_times.checked_timing(**fields)
    return _add_trigger(
        access, task, TriggerKind.SCHEDULE, timezone=timezone, **checked, **rules, **_rescheduled()
    )


def refuse_event(app: str, event: str) -> NoReturn:
    """An app's event. Raises `NotFound` for an unknown app, `Invalid` for an event it has not."""
    known = servers.get_app(app)
    raise Invalid(
        f"trigger_name: {known.display_name} has no event {event!r}; no app here starts tasks by "
        "itself. Use a webhook."
    )


@audit.recorded("trigger.inbox", of=inbox_of, makes=Trigger)
def open_inbox(access: Access, task: Task, *, allowed_senders: list[str] | None) -> Trigger:
    """An address whose mails start the task; again is the same address."""
    access.require_confirmed()
    with transaction.atomic():
        if allowed_senders is not None:
            allow_senders(access, task, allowed_senders)
        locked = tasks.lock(access, task)
        _require_startable(locked)
        trigger, _ = Trigger.objects.get_or_create(
            task=locked,
            kind=TriggerKind.EMAIL,
            defaults={"inbox_name": secrets.token_hex(8)} | OF_EVENTS,
        )
        _set(trigger, **_resumed(access, locked))
    return trigger


@audit.recorded("task.senders")
def allow_senders(access: Access, task: Task, senders: list[str]) -> None:
    """Set who may write to the task's address, without opening or closing it."""
    for sender in senders:
        addresses.check_sender(sender)
    with transaction.atomic():
        locked = tasks.lock(access, task)
        locked.allowed_senders = senders
        locked.save(update_fields=["allowed_senders", "updated_at"])


@audit.recorded("trigger.close_inbox", of=inbox_of)
def close_inbox(access: Access, task: Task) -> None:
    """Close the task's address; again is fine. Mails to it are refused from now on."""
    tasks.require_editor(access, task)
    task.triggers.filter(kind=TriggerKind.EMAIL).delete()


@audit.recorded("trigger.webhook", of=webhook_of, makes=Trigger)
def make_webhook(access: Access, task: Task) -> tuple[Trigger, str]:
    """Give a task a webhook, or its webhook a new token; returns the token, shown once."""
    access.require_confirmed()
    with transaction.atomic():
        locked = tasks.lock(access, task)
        _require_startable(locked)
        trigger, _ = Trigger.objects.get_or_create(
            task=locked, kind=TriggerKind.WEBHOOK, defaults=OF_EVENTS
        )
        token = webhook_tokens.make_token(trigger)
        resumed = _resumed(access, locked)
        _set(trigger, **resumed, **{name: getattr(trigger, name) for name in webhook_tokens.FIELDS})
    return trigger, token


@audit.recorded("trigger.pause_webhook", of=webhook_of)
def pause_webhook(access: Access, task: Task, *, paused: bool) -> Trigger | None:
    """Raises `Unsuitable` if there is none to resume; pausing none is fine, and None."""
    with transaction.atomic():
        locked = tasks.lock(access, task)
        trigger = webhook_of(locked)
        if not paused:
            _require_startable(locked)
        webhook_tokens.pause(trigger or Trigger(), paused=paused)
        if trigger is not None:
            switched = {"enabled": False} if paused else _resumed(access, locked)
            _set(trigger, **switched, hook_enabled=not paused)
    return trigger


@audit.recorded("trigger.remove_webhook", of=webhook_of)
def remove_webhook(access: Access, task: Task) -> None:
    """Destroy the webhook; again is fine."""
    tasks.require_editor(access, task)
    task.triggers.filter(kind=TriggerKind.WEBHOOK).delete()


@audit.recorded("trigger.update")
def update_trigger(
    access: Access, task: Task, trigger: Trigger, *, enabled: bool | None = None, **changes: Any
) -> Trigger:
    """Pause or resume a trigger, give it other rules (`RULES`), or a schedule another time or
    timezone.

    Raises `Invalid`, `Unsuitable` for waking one of a paused or archived task, or one that is over.
    """
    with transaction.atomic():
        locked = tasks.lock(access, task)
        fields = _checked_rules({name: changes.pop(name) for name in RULES if name in changes})
        if changes and trigger.kind != TriggerKind.SCHEDULE:
            raise Invalid(f"{', '.join(sorted(changes))}: only a schedule has this.")
        if (zone := changes.pop("timezone", None)) is not None:
            due_times.check_timezone(zone)
            fields |= _rescheduled() | {"timezone": zone}
        if changes:
            fields |= _rescheduled() | due_times.checked_timing(**changes)
            if trigger.rests_because == PauseReason.OVER and enabled is None:
                enabled = True
        if enabled is not None:
            fields |= _switched(access, locked, trigger, enabled=enabled, is_new_time=bool(changes))
        if not fields:
            raise Invalid(f"Give enabled, a time, timezone, or one of {', '.join(RULES)}.")
        _set(trigger, **fields)
        trigger.task = locked
    return trigger


def _switched(
    access: Access, task: Task, trigger: Trigger, *, enabled: bool, is_new_time: bool
) -> JSON:
    fields: JSON = {"enabled": enabled}
    if enabled:
        _require_startable(task)
        if trigger.run_at is not None and trigger.run_at <= timezone.now() and not is_new_time:
            raise Unsuitable("Its time is over: give it another one.", code="trigger_over")
        fields |= _resumed(access, task) | (_rescheduled() if not trigger.enabled else {})
    if trigger.kind == TriggerKind.WEBHOOK:
        webhook_tokens.pause(trigger, paused=not enabled)
        fields["hook_enabled"] = enabled
    return fields


def _resumed(access: Access, task: Task) -> JSON:
    """What is written on a trigger that is switched on. The caller holds the task."""
    take_over(access, task)
    return {"enabled": True, "rests_because": "", "failures": 0}


def _rescheduled() -> JSON:
    """Its due times count from now on; the scheduler finds the next one."""
    return {"armed_at": database_now(), "next_at": None}


def _checked_rules(rules: JSON) -> JSON:
    for name, known in (("overlap", Overlap.values), ("missed", Missed.values)):
        if name in rules and rules[name] not in known:
            raise Invalid(f"{name} must be one of {', '.join(known)}.")
    limit = rules.get("failure_limit")
    if limit is not None and not 1 <= limit <= MOST_FAILURES:
        raise Invalid(f"failure_limit must be 1 to {MOST_FAILURES}, or null for never.")
    if "missed_limit" in rules and not 1 <= (rules["missed_limit"] or 0) <= MOST_MISSED:
        raise Invalid(f"missed_limit must be 1 to {MOST_MISSED}.")
    return rules


@audit.recorded("trigger.delete")
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
            seen = Task.objects.visible_to(access)
            known = Trigger.objects.filter(task_id=int(task_id), kind=kind, task__in=seen)
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
    if not task.is_enabled or not task.teammate.is_enabled:
        raise Unsuitable(
            "The task or its teammate is paused; enable it before something may start it.",
            code="task_disabled",
        )


def _set(trigger: Trigger, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(trigger, name, value)
    trigger.save(update_fields=list(fields))
