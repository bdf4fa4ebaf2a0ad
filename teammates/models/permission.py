"""What tools may do without asking: the organization's settings and remembered permissions."""

from typing import ClassVar

from django.db import models

from teammates.fields import Identified
from teammates.models.people import EndUser, Organization, User
from teammates.models.scoped import ScopedQuerySet


class ToolMode(models.TextChoices):
    DEFAULT = "default", "As declared"
    ASK = "ask", "Always ask"
    OFF = "off", "Off"


class ToolSetting(models.Model):
    """How an organization uses one tool. No row: as the tool declares."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="tool_settings"
    )
    tool = models.CharField(max_length=200)
    mode = models.CharField(max_length=7, choices=ToolMode.choices, default=ToolMode.DEFAULT)
    approvals = models.PositiveSmallIntegerField(default=1)  # people who must agree
    expires_after = models.PositiveIntegerField(null=True)  # minutes; then it counts as denied
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("organization", "tool", name="tool_setting_once"),
            models.CheckConstraint(
                condition=models.Q(mode__in=ToolMode.values), name="tool_setting_mode_known"
            ),
            models.CheckConstraint(
                condition=models.Q(approvals__gte=1, approvals__lte=2),
                name="tool_setting_one_or_two_approvals",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tool}: {self.mode}"


class PolicySource(models.TextChoices):
    RUN_APPROVAL = "run_approval", "An approval"
    API = "api", "A program"
    PAGE = "page", "This page"


class PermissionPolicy(Identified):
    """A standing yes: this tool, perhaps only with these arguments, need not ask in this scope."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="permission_policies"
    )
    end_user = models.ForeignKey(
        EndUser, null=True, on_delete=models.CASCADE, related_name="permission_policies"
    )
    tool = models.CharField(max_length=255)
    # Argument → text that it must equal; `*` stands for any text. Empty: whatever the arguments.
    pattern = models.JSONField(default=dict)
    source = models.CharField(max_length=12, choices=PolicySource.choices)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")

    objects = ScopedQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "organization",
                "end_user",
                "tool",
                "pattern",
                name="permission_policy_once",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                condition=models.Q(source__in=PolicySource.values),
                name="permission_policy_source_known",
            ),
        ]

    def __str__(self) -> str:
        return self.tool
