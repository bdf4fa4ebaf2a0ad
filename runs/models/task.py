"""Saved work, and what its runs learned.

Every run has a task; a run that was just asked for gets a silent one of its own.
"""

from typing import ClassVar, Self

from django.db import models
from django.urls import reverse

from teammates.fields import Identified, iff
from teammates.models import APIKey, Effort, EndUser, Organization, PermissionMode, Teammate, User
from teammates.models.scoped import Owned, OwnedQuerySet


class TaskStatus(models.TextChoices):
    ENABLED = "enabled", "Enabled"
    DISABLED = "disabled", "Paused"
    ARCHIVED = "archived", "Archived"


class TaskQuerySet(OwnedQuerySet["Task"]):
    def saved(self) -> Self:
        """Without the silent ones of single runs."""
        return self.filter(is_ad_hoc=False)

    def current(self) -> Self:
        return self.exclude(status=TaskStatus.ARCHIVED)


class Task(Owned, Identified):
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="tasks")
    teammate = models.ForeignKey(Teammate, on_delete=models.PROTECT, related_name="tasks")
    end_user = models.ForeignKey(EndUser, null=True, on_delete=models.PROTECT, related_name="tasks")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    # The limited key that set it up or changed it last: what starts by itself may do no more.
    api_key = models.ForeignKey(APIKey, null=True, on_delete=models.SET_NULL, related_name="+")
    name = models.CharField(max_length=255)
    instructions = models.TextField()
    expected_output = models.TextField(blank=True, default="")
    goals = models.TextField(blank=True, default="")
    is_ad_hoc = models.BooleanField(default=False)
    status = models.CharField(max_length=8, choices=TaskStatus.choices, default=TaskStatus.ENABLED)
    archived_at = models.DateTimeField(null=True)
    email_notifications = models.BooleanField(default=True)
    workflow_stage = models.CharField(max_length=100, blank=True, default="")
    # Which template's task it was made from.
    template_task_slug = models.CharField(max_length=100, blank=True, default="")
    # Who may start it by mail; empty: its owner.
    allowed_senders = models.JSONField(null=True)

    # What its runs do unless they say otherwise; empty or None: as the teammate does.
    model = models.CharField(max_length=200, blank=True, default="")
    effort = models.CharField(max_length=10, blank=True, default="", choices=Effort.choices)
    permission_mode = models.CharField(
        max_length=10, blank=True, default="", choices=PermissionMode.choices
    )
    tools = models.JSONField(null=True)
    memory = models.BooleanField(null=True)
    history = models.BooleanField(null=True)
    task_setup_tools = models.BooleanField(null=True)
    feedback = models.BooleanField(null=True)
    learns = models.BooleanField(default=True)  # its runs leave lessons for later ones

    objects = TaskQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(status__in=TaskStatus.values), name="task_status_known"
            ),
            models.CheckConstraint(
                condition=iff(
                    models.Q(status=TaskStatus.ARCHIVED), models.Q(archived_at__isnull=False)
                ),
                name="task_archived_at_iff_archived",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["organization", "-id"],
                name="task_list",
                condition=models.Q(is_ad_hoc=False),
            ),
            models.Index(
                fields=["teammate", "-id"],
                name="task_list_teammate",
                condition=models.Q(is_ad_hoc=False),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("runs:task_detail", args=[self.pk])

    @property
    def is_archived(self) -> bool:
        return self.status == TaskStatus.ARCHIVED

    @property
    def is_enabled(self) -> bool:
        return self.status == TaskStatus.ENABLED


class Lesson(models.Model):
    """What a run of a task found out that later runs of it should know."""

    id = models.BigAutoField(primary_key=True)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="lessons")
    text = models.CharField(max_length=500)
    when_applicable = models.CharField(max_length=300, blank=True, default="")
    source_run_id = models.BigIntegerField(null=True)
    reaffirm_count = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    last_reaffirmed_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("task", "text", name="lesson_once_per_task"),
        ]

    def __str__(self) -> str:
        return self.text
