"""What starts tasks by itself."""

from typing import ClassVar

from django.db import models

from runs.models.task import Task, TaskStatus
from teammates.models import Reachable, TeammateStatus


class TriggerKind(models.TextChoices):
    SCHEDULE = "schedule", "Schedule"
    WEBHOOK = "webhook", "Webhook"
    EMAIL = "email", "E-mail"
    APP = "app", "App"


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
    # Of an app's event.
    app = models.CharField(max_length=100, blank=True, default="")
    event = models.CharField(max_length=100, blank=True, default="")
    event_settings = models.JSONField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(kind__in=TriggerKind.values), name="trigger_kind_known"
            ),
            models.UniqueConstraint(
                "task", "kind",
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
        ]  # fmt: skip
        indexes: ClassVar = [models.Index(fields=["-task", "-id"], name="trigger_list")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.task_id}"

    @property
    def is_armed(self) -> bool:
        """Whether it would start a run: it rests while its task or teammate is paused."""
        return (
            self.enabled
            and self.task.status == TaskStatus.ENABLED
            and self.task.teammate.status == TeammateStatus.ENABLED
        )
