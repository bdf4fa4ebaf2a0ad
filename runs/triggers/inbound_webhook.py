"""Calls of other systems that start a task or a teammate (contract v2 5.2). Each is in the log of
firings, also one that started nothing."""

import json
import secrets
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from django.db import transaction

from runs.models import Firing, FiringStatus, SkipReason, Trigger, TriggerKind
from runs.triggers import firing, history
from runs.triggers.targets import TriggerEvent, TriggerTarget, target_of
from teammates.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
    TooMany,
    Unsuitable,
)
from teammates.fields import hash_secret
from teammates.models import Teammate
from teammates.quoting import as_data
from teammates.text import clean, read_json
from teammates.types import JSON

LARGEST_BODY = 256 * 1024  # bytes
# Refusals that say nothing about the call: what is set up here is wrong.
OURS_TO_MEND = (Invalid, Unsuitable, Forbidden, NotFound, Conflict)
GOES_ON = (SkipReason.OVERLAP, SkipReason.REPLACED)  # of the call itself nothing was wrong
WEBHOOK = "a webhook"
CALLED = "Your webhook was called. Do with it what your instructions say."


@dataclass(frozen=True)
class WebhookCall:
    """What came in. `body` is None where it was too large to be read."""

    body: bytes | None = b""
    content_type: str = ""
    event_id: str = ""
    source: str = ""
    is_sample: bool = False


@dataclass(frozen=True)
class Received:
    """What became of a call: its entry in the log, and of a repeated one the first entry."""

    firing: Firing
    first: Firing | None = None

    @property
    def refusal(self) -> Exception | None:
        """What the caller is answered where nothing came of the call (contract v2 5.2)."""
        entry = self.first or self.firing
        if entry.error is not None and not isinstance(entry.error, OURS_TO_MEND):
            return entry.error
        if entry.status != FiringStatus.SKIPPED or entry.reason in GOES_ON:
            return None
        match SkipReason(entry.reason):
            case SkipReason.TOKEN:
                return NotFound("There is no such webhook.", code="webhook_not_found")
            case SkipReason.PAUSED:
                return Conflict("This webhook is paused.", code="webhook_paused")
            case SkipReason.RATE:
                return TooMany("Too many calls within a minute.", retry_after=30)
            case SkipReason.SIZE:
                return TooLarge(f"The body must have at most {LARGEST_BODY // 1024} KB.")
            case SkipReason.BODY:
                return Invalid(entry.detail)
            case reason:
                said = entry.detail or f"Nothing was started: {reason.label}."
                return Conflict(said, code="not_started")


def receive_for_task(task_id: int, token: str, call: WebhookCall) -> Received:
    """Raises `NotFound` where no webhook is."""
    triggers = Trigger.objects.with_task().filter(task=task_id, kind=TriggerKind.WEBHOOK)
    return _receive(triggers, token, call)


def receive_for_teammate(teammate_id: int, token: str, call: WebhookCall) -> Received:
    """Raises `NotFound` where no webhook is."""
    return _receive(Teammate.objects.with_owner().filter(pk=teammate_id), token, call)


def send_sample(row: Trigger | Teammate, sample: JSON) -> Received:
    """A call made to try the webhook out. It starts a real run."""
    call = WebhookCall(
        json.dumps(sample).encode(),
        "application/json",
        event_id=f"sample_{secrets.token_hex(8)}",
        source="a sample",
        is_sample=True,
    )
    if isinstance(row, Trigger):
        return _receive(Trigger.objects.with_task().filter(pk=row.pk), None, call)
    return _receive(Teammate.objects.with_owner().filter(pk=row.pk), None, call)


def _receive(rows: Any, token: str | None, call: WebhookCall) -> Received:
    # Strangers are turned away before anything is locked: they hold up nobody.
    row = rows.first()
    if row is None or not row.hook_hash:
        raise NotFound("There is no such webhook.", code="webhook_not_found")
    if token is not None and not secrets.compare_digest(hash_secret(token), row.hook_hash):
        return Received(
            firing.skip(
                target_of(row),
                TriggerEvent(TriggerKind.WEBHOOK, source=call.source),
                SkipReason.TOKEN,
            )
        )
    with transaction.atomic():
        # The row is the lock: of two calls with one id, the second finds the first.
        same = rows.filter(hook_hash=row.hook_hash)
        held = same.select_for_update(no_key=True, of=("self",)).first()
        if held is None:
            raise NotFound("There is no such webhook.", code="webhook_not_found")
        target = target_of(held)
        event = TriggerEvent(
            TriggerKind.WEBHOOK,
            source=call.source,
            event_id=call.event_id,
            received=(call.body or b"").decode(errors="replace"),
            is_sample=call.is_sample,
        )
        first = history.find_event(target, event)
        if first is not None:
            said = f"It came to run {first.run_id}." if first.run_id else ""
            return Received(firing.skip(target, event, SkipReason.DUPLICATE, said), first)
        if reason := _refusal(held, target, call):
            return Received(firing.skip(target, event, reason))
        try:
            text = _text_of(call, needs_message=target.task is None)
        except Invalid as error:
            return Received(firing.skip(target, event, SkipReason.BODY, error.message))
        return Received(firing.fire(target, replace(event, text=text)))


def _refusal(
    row: Trigger | Teammate, target: TriggerTarget, call: WebhookCall
) -> SkipReason | None:
    if call.body is None or len(call.body) > LARGEST_BODY:
        return SkipReason.SIZE
    is_active = row.is_active if isinstance(row, Trigger) else row.is_enabled and row.hook_enabled
    return firing.refusal(target, TriggerKind.WEBHOOK, is_active=is_active)


# --- the body -----------------------------------------------------------------------------------
def _text_of(call: WebhookCall, *, needs_message: bool) -> str:
    """The prompt that a call makes. Raises `Invalid` for a body that cannot be read."""
    body = call.body or b""
    given = _read(body, call.content_type) if body.strip() else None
    if not needs_message:
        return "" if given is None else _quoted(given)
    given = given if isinstance(given, dict) else {}
    message = given.get("message")
    if not isinstance(message, str) or not message.strip():
        raise Invalid('message: the body needs one, as JSON {"message": "…"} or in a form.')
    rest = {name: value for name, value in given.items() if name != "message"}
    said = f"{CALLED}\n\n{_quoted(message)}"
    return f"{said}\n\n{_quoted(rest)}" if rest else said


def _read(body: bytes, content_type: str) -> Any:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Invalid("The body is not UTF-8 text.") from None
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return clean(dict(parse_qsl(text, keep_blank_values=True)))
    try:
        return clean(read_json(text))
    except ValueError as error:
        if kind.endswith("json"):
            raise Invalid(f"The body is not JSON: {error}.") from None
    return clean(text)


def _quoted(given: Any) -> str:
    if isinstance(given, str):
        return as_data(given, WEBHOOK)
    return as_data(json.dumps(given, indent=2, ensure_ascii=False), WEBHOOK, language="json")
