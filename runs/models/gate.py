"""Gates: pending human decisions."""

from typing import ClassVar

from django.db import models

from runs.models.run import Run
from runs.models.step import ToolCall
from teammates.fields import Named, iff
from teammates.models import User


class GateKind(models.TextChoices):
    APPROVAL = "approval", "Approval"
    QUESTION = "question", "Question"
    UNKNOWN = "unknown", "Did it happen?"


class GateStatus(models.TextChoices):
    PENDING = "pending", "Pending"
    ALLOWED = "allowed", "Allowed"
    DENIED = "denied", "Denied"
    CANCELLED = "cancelled", "Cancelled"


class Gate(Named):
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="gates")
    tool_call = models.ForeignKey(ToolCall, on_delete=models.CASCADE, related_name="gates")
    kind = models.CharField(max_length=8, choices=GateKind.choices)
    status = models.CharField(max_length=9, choices=GateStatus.choices, default=GateStatus.PENDING)
    prompt = models.TextField()  # composed by the server
    request = models.JSONField()  # the arguments as shown
    answer = models.JSONField(null=True)
    decided_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    decided_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "run", name="gate_one_pending_per_run", condition=models.Q(status="pending")
            ),
            models.CheckConstraint(
                condition=models.Q(kind__in=GateKind.values), name="gate_kind_known"
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=GateStatus.values), name="gate_status_known"
            ),
            models.CheckConstraint(
                condition=iff(
                    models.Q(status=GateStatus.PENDING), models.Q(decided_at__isnull=True)
                ),
                name="gate_decided_at_iff_decided",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} in {self.run_id} ({self.status})"
