"""How the outside reaches a task or a teammate: what both pages show of a webhook and an inbox."""

import json
from dataclasses import dataclass, replace

from django.contrib import messages
from django.urls import reverse

from runs.models import Firing, PauseReason, SkipReason, Task, Trigger, TriggerKind
from runs.triggers import schedule_text
from teammates.api.schemas import address_of
from teammates.errors import DomainError
from teammates.models import Reachable, Teammate
from teammates.roster import webhook_tokens
from teammates.types import Context
from teammates.web.pages import PageRequest

SAMPLE: Context = {
    "message": "This is a sample: say that it arrived.",
    "event": "sample",
    "id": 4411,
}


@dataclass(frozen=True)
class InboundChannels:
    """A webhook and an inbox as a page shows them. `act` is where its forms are posted to."""

    act: str
    hook_url: str | None = None  # masked; None: there is none
    hook_is_on: bool = False
    example: str = json.dumps(SAMPLE)  # a body that it takes
    address: str | None = None
    takes_mail: bool = False
    senders: str = ""
    senders_problem: str = ""
    owner: str = ""
    mailbox: str | None = None
    has_mailbox: bool = False  # whether it may have one

    @classmethod
    def of_task(
        cls, request: PageRequest, task: Task, hook: Trigger | None, inbox: Trigger | None
    ) -> "InboundChannels":
        return cls(
            act=reverse("runs:trigger_act", args=[task.pk]),
            hook_url=_masked(request, "tasks", task.pk, hook),
            hook_is_on=hook is not None and hook.is_active,
            address=inbox.email_address if inbox else None,
            takes_mail=inbox is not None and inbox.is_active,
            senders=", ".join(task.allowed_senders or []),
            owner=task.created_by.email if task.created_by else "the owners",
        )

    @classmethod
    def of_teammate(cls, request: PageRequest, teammate: Teammate) -> "InboundChannels":
        return cls(
            act=reverse("runs:teammate_reach", args=[teammate.pk]),
            hook_url=_masked(request, "mates", teammate.pk, teammate),
            hook_is_on=teammate.hook_enabled and teammate.is_enabled,
            address=teammate.email_address,
            takes_mail=teammate.is_enabled,
            senders=", ".join(teammate.allowed_senders or []),
            owner=teammate.created_by.email if teammate.created_by else "the owners",
            mailbox=teammate.fetchmail_address,
            has_mailbox=True,
        )


def senders_of(request: PageRequest) -> list[str]:
    """Who may write, as somebody typed it."""
    return request.POST.get("senders", "").replace(",", " ").split()


def refuse_senders(
    request: PageRequest, reach: InboundChannels, error: DomainError
) -> InboundChannels:
    """With what was typed, and what is wrong about it."""
    said = error.message.removeprefix("allowed_senders: ")
    typed = request.POST.get("senders", "")
    return replace(reach, senders=typed, senders_problem=said[:1].upper() + said[1:])


def _masked(request: PageRequest, kind: str, row_id: int, row: Reachable | None) -> str | None:
    path = webhook_tokens.masked_path(kind, row_id, row) if row is not None else None
    return address_of(request) + path if path else None


def hook_address(request: PageRequest, kind: str, row_id: int, token: str) -> str:
    """The live address of a webhook: shown once."""
    return address_of(request) + webhook_tokens.path(kind, row_id, token)


def say_what_came(request: PageRequest, firing: Firing) -> None:
    """Of a sample."""
    if firing.run is not None:
        messages.success(request, f"The sample started run {firing.run_id}.")
    else:
        why = firing.detail or firing.get_reason_display()
        if firing.reason == SkipReason.RATE:
            why = f"{why}. Try again in a minute"
        messages.error(request, f"The sample started nothing: {why}.".replace("..", "."))


def what_starts(task: Task) -> list[tuple[str, str, str]]:
    """An icon, words, and why it is off, for each trigger of a task that has them loaded."""
    icons = {TriggerKind.WEBHOOK: ("webhook", "Webhook"), TriggerKind.EMAIL: ("mail", "E-mail")}
    found = []
    for trigger in task.triggers.all():
        trigger.task = task
        icon, words = icons.get(TriggerKind(trigger.kind), ("clock", ""))
        is_over = trigger.rests_because == PauseReason.OVER
        off = "" if trigger.is_active else "done" if is_over else "paused"
        found.append((icon, words or schedule_text.in_words(trigger), off))
    return found
