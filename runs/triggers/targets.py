"""What happened, and what it is to start."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from runs.creation.attachments import Attachment
from runs.models import (
    Channel,
    Firing,
    Task,
    Trigger,
    TriggerKind,
)
from teammates.fields import bounded_key
from teammates.models import EndUser, Organization, Teammate, User
from threads.models import Thread

CHANNELS = {
    TriggerKind.SCHEDULE: Channel.SCHEDULE,
    TriggerKind.WEBHOOK: Channel.WEBHOOK,
    TriggerKind.EMAIL: Channel.EMAIL,
}


@dataclass(frozen=True)
class TriggerEvent:
    """What happened: the words for the run, what came with them, and how the log names it."""

    kind: TriggerKind
    text: str = ""
    title: str = ""
    attachments: Sequence[Attachment] = ()
    thread: Thread | None = None  # the conversation that it continues
    due_at: datetime | None = None
    source: str = ""
    event_id: str = ""
    received: str = ""
    is_sample: bool = False


@dataclass(frozen=True)
class TriggerTarget:
    """Who is to work: a task over one of its triggers, or a teammate by itself."""

    teammate: Teammate
    task: Task | None = None
    trigger: Trigger | None = None

    @property
    def organization(self) -> Organization:
        return self.teammate.organization if self.task is None else self.task.organization

    @property
    def owner(self) -> User | None:
        return (self.task or self.teammate).created_by

    @property
    def end_user(self) -> EndUser | None:
        return (self.task or self.teammate).end_user

    def origin(self, kind: TriggerKind, source: str) -> str:
        """Of a run that it starts (`Run.origin`). A schedule says what people of the organization
        wrote; all calls of a webhook come from whoever has its token."""
        if kind == TriggerKind.SCHEDULE:
            return ""
        channel = f"trigger {self.trigger.pk}" if self.trigger else f"teammate {self.teammate.pk}"
        sender = f" {source}" if kind == TriggerKind.EMAIL else ""
        return bounded_key(f"{kind} {channel}{sender}")

    @property
    def firings(self) -> "QuerySet[Firing]":
        if self.trigger is not None:
            return Firing.objects.filter(trigger=self.trigger)
        return Firing.objects.filter(teammate=self.teammate, task=None)


def target_of(row: Trigger | Teammate) -> TriggerTarget:
    """`row` with what `Trigger.objects.with_task`, or a teammate's `with_version`, loads."""
    if isinstance(row, Teammate):
        return TriggerTarget(row)
    return TriggerTarget(row.task.teammate, row.task, row)
