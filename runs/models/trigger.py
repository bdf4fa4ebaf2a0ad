"""What starts runs by itself, and the record of each time that it did, or why it did not."""

from typing import ClassVar, Self

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models.functions import Now

from runs.models.run import Run
from runs.models.task import Task, TaskStatus
from teammates.fields import iff
from teammates.models import Organization, Reachable, Teammate, TeammateStatus
from threads.models import Message


class TriggerKind(models.TextChoices):
    SCHEDULE = "schedule", "Schedule"
    WEBHOOK = "webhook", "Webhook"
    EMAIL = "email", "E-mail"
    APP = "app", "App"


class Overlap(models.TextChoices):
    """What happens when a run of the task is still under way."""

    SKIP = "skip", "Leave it out"
    QUEUE = "queue", "Wait, and run once"
    ALLOW = "allow", "Run both"
    CANCEL = "cancel", "Stop the old run"


class Missed(models.TextChoices):
    """What becomes of the times at which no Muster was running."""

    LATEST = "latest", "Run the latest one"
    ALL = "all", "Run all, up to a number"
    NONE = "none", "Run none of them"


class PauseReason(models.TextChoices):
    """Why a trigger went to rest by itself."""

    FAILURES = "failures", "its last runs all failed"
    OVER = "over", "its time is over"


class TriggerQuerySet(models.QuerySet["Trigger"]):
    def active(self) -> Self:
        """Those that would start a run: `Trigger.is_active`, as a query."""
        return self.filter(
            enabled=True,
            task__status=TaskStatus.ENABLED,
            task__teammate__status=TeammateStatus.ENABLED,
            task__organization__closed_at=None,
        )

    def reschedule(self) -> int:
        """Count their due times from now on; the scheduler finds the next ones."""
        return self.update(armed_at=Now(), next_at=None)

    def with_task(self) -> Self:
        return self.select_related(
            "task__teammate__version",
            "task__organization",
            "task__end_user",
            "task__created_by",
            "task__api_key",
        )


class Trigger(Reachable):
    """What starts a task by itself. A task has any number of schedules, one webhook, one inbox."""

    id = models.BigAutoField(primary_key=True)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="triggers")
    kind = models.CharField(max_length=8, choices=TriggerKind.choices)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    # Of a schedule: exactly one of the first three.
    cron = models.CharField(max_length=200, blank=True, default="")
    interval_seconds = models.PositiveIntegerField(null=True)
    run_at = models.DateTimeField(null=True)
    timezone = models.CharField(max_length=64, default="UTC")
    # Intervals are counted from here.
    starts_at = models.DateTimeField(auto_now_add=True)
    # Due times before this do not count: it was set, changed or resumed then.
    armed_at = models.DateTimeField(db_default=Now())
    next_at = models.DateTimeField(null=True)  # written by the scheduler; None: to be found
    overlap = models.CharField(max_length=6, choices=Overlap.choices, default=Overlap.SKIP)
    missed = models.CharField(max_length=6, choices=Missed.choices, default=Missed.LATEST)
    missed_limit = models.PositiveSmallIntegerField(default=10)
    # After how many failed runs in a row it rests; None: never.
    failure_limit = models.PositiveSmallIntegerField(null=True, default=5)
    failures = models.PositiveSmallIntegerField(default=0)
    rests_because = models.CharField(
        max_length=8, choices=PauseReason.choices, blank=True, default=""
    )
    # Of an app's event.
    app = models.CharField(max_length=100, blank=True, default="")
    event = models.CharField(max_length=100, blank=True, default="")
    event_settings = models.JSONField(null=True)

    objects = TriggerQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(kind__in=TriggerKind.values), name="trigger_kind_known"
            ),
            models.CheckConstraint(
                condition=models.Q(overlap__in=Overlap.values, missed__in=Missed.values),
                name="trigger_rules_known",
            ),
            models.UniqueConstraint(
                "task",
                "kind",
                name="trigger_one_webhook_one_inbox",
                condition=models.Q(kind__in=[TriggerKind.WEBHOOK, TriggerKind.EMAIL]),
            ),
            models.CheckConstraint(
                condition=~models.Q(kind=TriggerKind.SCHEDULE)
                | (~models.Q(cron="") & models.Q(interval_seconds=None, run_at=None))
                | (models.Q(cron="", run_at=None) & models.Q(interval_seconds__isnull=False))
                | (models.Q(cron="", interval_seconds=None) & models.Q(run_at__isnull=False)),
                name="trigger_schedule_has_one_timing",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["-task", "-id"], name="trigger_list"),
            models.Index(
                fields=["next_at"], name="trigger_due", condition=models.Q(next_at__isnull=False)
            ),
            models.Index(
                fields=["id"],
                name="trigger_to_arm",
                condition=models.Q(kind="schedule", enabled=True, next_at=None),
            ),
            models.Index(
                fields=["inbox_name"], name="trigger_inbox", condition=~models.Q(inbox_name="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.task_id}"

    @property
    def end_user_id(self) -> int | None:
        return self.task.end_user_id

    @property
    def is_active(self) -> bool:
        """Whether it would start a run: it rests while its task or teammate is paused."""
        return self.enabled and self.task.is_enabled and self.task.teammate.is_enabled


class FiringStatus(models.TextChoices):
    STARTED = "started", "Started a run"
    WAITING = "waiting", "Waits for the run before it"
    SKIPPED = "skipped", "Left out"


class SkipReason(models.TextChoices):
    """Why a firing started nothing."""

    OVERLAP = "overlap", "a run of the task was still under way"
    REPLACED = "replaced", "a newer one took its place"
    MISSED = "missed", "Muster was not running then, or too late"
    PAUSED = "paused", "it was paused"
    DUPLICATE = "duplicate", "it was received before"
    TOKEN = "token", "its token was wrong"
    RATE = "rate", "too many came at once"
    SIZE = "size", "it was too large"
    BODY = "body", "it could not be read"
    SENDER = "sender", "its sender is not allowed"
    AUTOMATIC = "automatic", "a machine sent it in answer to a mail"
    REFUSED = "refused", "no run could be started"


class FiringQuerySet(models.QuerySet["Firing"]):
    def unsettled(self) -> Self:
        return self.filter(status=FiringStatus.STARTED, settled_at=None)


class Firing(models.Model):
    """One time that something was to start a run; the same refusal again and again is one row."""

    id = models.BigAutoField(primary_key=True)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")
    teammate = models.ForeignKey(Teammate, on_delete=models.CASCADE, related_name="firings")
    task = models.ForeignKey(Task, null=True, on_delete=models.CASCADE, related_name="firings")
    trigger = models.ForeignKey(
        Trigger, null=True, on_delete=models.SET_NULL, related_name="firings", db_index=False
    )
    kind = models.CharField(max_length=8, choices=TriggerKind.choices)
    status = models.CharField(max_length=7, choices=FiringStatus.choices)
    reason = models.CharField(max_length=9, choices=SkipReason.choices, blank=True, default="")
    detail = models.CharField(max_length=500, blank=True, default="")
    times = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)
    due_at = models.DateTimeField(null=True)  # of a schedule
    last_at = models.DateTimeField(null=True)  # of several, the last one
    run = models.OneToOneField(Run, null=True, on_delete=models.SET_NULL, related_name="firing")
    prompt = models.ForeignKey(
        Message, null=True, on_delete=models.SET_NULL, related_name="+"
    )  # what a waiting one will ask
    enclosed = models.JSONField(default=list)  # and the ids of the files that came with it
    settled_at = models.DateTimeField(null=True)  # when its run's outcome was counted
    # What was received: from whom, under which id, and its beginning.
    source = models.CharField(max_length=320, blank=True, default="")
    event_id = models.CharField(max_length=255, blank=True, default="")
    received = models.TextField(blank=True, default="")
    is_sample = models.BooleanField(default=False)

    objects = FiringQuerySet.as_manager()

    # Of one that was just left out as `REFUSED`: what refused it, or what went wrong inside.
    error: Exception | None = None

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(status__in=FiringStatus.values), name="firing_status_known"
            ),
            models.CheckConstraint(
                condition=iff(models.Q(status=FiringStatus.SKIPPED), ~models.Q(reason="")),
                name="firing_reason_iff_skipped",
            ),
            models.UniqueConstraint("trigger", "due_at", name="firing_once_per_due_time"),
            models.UniqueConstraint(
                "trigger",
                "event_id",
                name="firing_once_per_event",
                condition=~models.Q(status=FiringStatus.SKIPPED) & ~models.Q(event_id=""),
            ),
            models.UniqueConstraint(
                "teammate",
                "kind",
                "event_id",
                name="firing_once_per_event_of_teammate",
                condition=~models.Q(status=FiringStatus.SKIPPED)
                & ~models.Q(event_id="")
                & models.Q(task=None),
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["task", "-id"], name="firing_of_task"),
            models.Index(fields=["trigger", "-id"], name="firing_of_trigger"),
            models.Index(
                fields=["teammate", "-id"],
                name="firing_of_teammate",
                condition=models.Q(task=None),
            ),
            models.Index(fields=["organization", "-id"], name="firing_list"),
            # How often lately.
            models.Index(fields=["trigger", "created_at"], name="firing_lately"),
            models.Index(
                fields=["teammate", "created_at"],
                name="firing_lately_teammate",
                condition=models.Q(task=None),
            ),
            BrinIndex(fields=["created_at"], name="firing_age"),
            # What was said of what came to nothing, where only numbers are kept.
            models.Index(
                fields=["organization"],
                name="firing_said",
                condition=models.Q(status=FiringStatus.SKIPPED) & ~models.Q(received=""),
            ),
            models.Index(
                fields=["trigger"],
                name="firing_waiting",
                condition=models.Q(status=FiringStatus.WAITING),
            ),
            models.Index(
                fields=["id"],
                name="firing_unsettled",
                condition=models.Q(status=FiringStatus.STARTED, settled_at=None),
            ),
            models.Index(
                fields=["organization", "event_id"],
                name="firing_event",
                condition=~models.Q(event_id=""),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} firing {self.pk}"
