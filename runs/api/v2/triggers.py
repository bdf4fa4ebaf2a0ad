"""v2: what starts tasks by itself (contract v2 2.4)."""

from typing import Literal

from ninja import Router, Status

from runs.api.v2.tasks import RuleFields, TimingFields, find_task, masked_url
from runs.models import Trigger, TriggerKind
from runs.triggers import definitions, due_times
from teammates.api.schemas import (
    ApiRequest,
    EnabledIn,
    Limit,
    address_of,
    iso,
    whole,
)
from teammates.api.scopes import scoped
from teammates.errors import Invalid
from teammates.roster import webhook_tokens
from teammates.types import JSON

router = Router(tags=["tasks"])


class TriggerIn(TimingFields, RuleFields):
    type: Literal["schedule", "webhook", "email", "app"]
    timezone: str = "UTC"
    app: str | None = None
    trigger_name: str | None = None
    trigger_config: JSON | None = None
    user_id: str | None = None
    allowed_senders: list[str] | None = None


class TriggerChange(TimingFields, RuleFields):
    enabled: bool | None = None
    timezone: str | None = None


# --- webhook ------------------------------------------------------------------------------------
@router.post("/tasks/{task_id}/webhook", response={201: JSON})
def make_task_webhook(
    request: ApiRequest, task_id: int, user_id: str | None = None
) -> Status[JSON]:
    """A webhook, or a new token for it. The address is not shown again."""
    task = find_task(request, task_id, user_id)
    _, token = definitions.make_webhook(request.auth, task)
    path = webhook_tokens.path("tasks", task.pk, token)
    return Status(201, {"enabled": True, "url": address_of(request) + path})


@router.patch("/tasks/{task_id}/webhook")
def pause_task_webhook(
    request: ApiRequest, task_id: int, payload: EnabledIn, user_id: str | None = None
) -> JSON:
    task = find_task(request, task_id, user_id)
    trigger = definitions.pause_webhook(request.auth, task, paused=not payload.enabled)
    return {
        "enabled": trigger is not None and trigger.enabled,
        "url": masked_url(request, trigger) if trigger else None,
    }


@router.delete("/tasks/{task_id}/webhook", response={204: None})
def remove_task_webhook(
    request: ApiRequest, task_id: int, user_id: str | None = None
) -> Status[None]:
    definitions.remove_webhook(request.auth, find_task(request, task_id, user_id))
    return Status(204, None)


# --- triggers -----------------------------------------------------------------------------------
@router.post("/tasks/{task_id}/triggers", response={201: JSON}, tags=["triggers"])
def create_trigger(
    request: ApiRequest, task_id: int, payload: TriggerIn, user_id: str | None = None
) -> Status[JSON]:
    """Let something start the task: a schedule, its webhook (whose address is shown here alone),
    mail, or an app."""
    task = find_task(request, task_id, payload.user_id or user_id)
    timing = payload.dict(include=set(due_times.TIMINGS))
    if payload.type != "schedule" and any(value is not None for value in timing.values()):
        raise Invalid("cron, interval_seconds and run_at are for the type schedule.")
    live_url = None
    if payload.type == "schedule":
        trigger = definitions.add_schedule(
            request.auth, task, timezone=payload.timezone, **timing, **_rules(payload)
        )
    elif payload.type == "webhook":
        trigger, token = definitions.make_webhook(request.auth, task)
        live_url = address_of(request) + webhook_tokens.path("tasks", task.pk, token)
    elif payload.type == "email":
        trigger = definitions.open_inbox(
            request.auth, task, allowed_senders=payload.allowed_senders
        )
    else:
        if payload.app is None or payload.trigger_name is None:
            raise Invalid("app and trigger_name are required for the type app.")
        definitions.refuse_event(payload.app, payload.trigger_name)
    shown = trigger_out(request, definitions.get_trigger(task, definitions.wire_id(trigger)))
    return Status(201, shown | ({"url": live_url} if live_url else {}))


@router.get("/tasks/{task_id}/triggers", tags=["triggers"])
def list_task_triggers(request: ApiRequest, task_id: int, user_id: str | None = None) -> JSON:
    task = find_task(request, task_id, user_id)
    found = task.triggers.select_related("task__teammate").order_by("-id")
    return whole([trigger_out(request, trigger) for trigger in found])


@router.patch("/tasks/{task_id}/triggers/{trigger_id}", tags=["triggers"])
def update_trigger(
    request: ApiRequest,
    task_id: int,
    trigger_id: str,
    payload: TriggerChange,
    user_id: str | None = None,
) -> JSON:
    """Pause or resume it, or give a schedule another time, which replaces the one it had."""
    task = find_task(request, task_id, user_id)
    trigger = definitions.get_trigger(task, trigger_id)
    given = {name: value for name, value in payload.dict().items() if value is not None}
    given |= _rules(payload)
    return trigger_out(request, definitions.update_trigger(request.auth, task, trigger, **given))


def _rules(payload: RuleFields) -> JSON:
    """Those that are given; null means never for `failure_limit`, and nothing for the others."""
    given = payload.dict(include=set(definitions.RULES), exclude_unset=True)
    return {k: v for k, v in given.items() if v is not None or k == "failure_limit"}


@router.delete("/tasks/{task_id}/triggers/{trigger_id}", response={204: None}, tags=["triggers"])
def delete_trigger(
    request: ApiRequest, task_id: int, trigger_id: str, user_id: str | None = None
) -> Status[None]:
    task = find_task(request, task_id, user_id)
    definitions.delete_trigger(request.auth, task, definitions.get_trigger(task, trigger_id))
    return Status(204, None)


@router.get("/triggers", tags=["triggers"])
def list_triggers(
    request: ApiRequest,
    user_id: str | None = None,
    type: Literal["schedule", "webhook", "email", "app"] | None = None,
    task_id: int | None = None,
    limit: Limit = 20,
    starting_after: str | None = None,
) -> JSON:
    """Of all tasks; `starting_after` is `task:trigger`, as 7:schedule_10."""
    filters = {
        name: value for name, value in (("kind", type), ("task", task_id)) if value is not None
    }
    access = scoped(request, user_id)
    rows = list(definitions.list_triggers(access, after=starting_after, **filters)[: limit + 1])
    last = rows[limit - 1] if len(rows) > limit else None
    return {
        "data": [trigger_out(request, trigger) for trigger in rows[:limit]],
        "has_more": last is not None,
        "next_starting_after": last and f"{last.task_id}:{definitions.wire_id(last)}",
    }


def trigger_out(request: ApiRequest, trigger: Trigger) -> JSON:
    """A trigger (contract v2 2.3); the address of a webhook is masked."""
    is_webhook = trigger.kind == TriggerKind.WEBHOOK
    return {
        "id": definitions.wire_id(trigger),
        "type": trigger.kind,
        "enabled": trigger.is_active,
        "task_id": trigger.task_id,
        "task_name": trigger.task.name,
        "cron": trigger.cron or None,
        "interval_seconds": trigger.interval_seconds,
        "run_at": iso(trigger.run_at),
        "timezone": trigger.timezone,
        "next_run": iso(due_times.next_time(trigger)),
        **{rule: getattr(trigger, rule) for rule in definitions.RULES},
        "rests_because": trigger.rests_because or None,
        "url": masked_url(request, trigger) if is_webhook else None,
        "address": trigger.email_address,
        "app": trigger.app or None,
        "trigger_name": trigger.event or None,
        "trigger_config": trigger.event_settings,
    }
