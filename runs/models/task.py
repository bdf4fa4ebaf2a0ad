"""Saved work. Every run has one; a run that was just asked for gets a silent one of its own."""

from typing import ClassVar

from django.db import models

from teammates.fields import Named
from teammates.models import Effort, EndUser, Organization, PermissionMode, Teammate, User


class Task(Named):
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="tasks")
    teammate = models.ForeignKey(Teammate, on_delete=models.PROTECT, related_name="tasks")
    end_user = models.ForeignKey(EndUser, null=True, on_delete=models.PROTECT, related_name="tasks")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    name = models.CharField(max_length=255)
    instructions = models.TextField()
    is_ad_hoc = models.BooleanField(default=False)

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

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["organization", "-id"],
                name="task_list",
                condition=models.Q(is_ad_hoc=False),
            ),
        ]

    def __str__(self) -> str:
        return self.name
