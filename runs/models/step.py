"""Steps (one model call, or one batch of tool calls) and the journal of tool calls."""

from typing import ClassVar, Self

from django.db import models

from runs.models.run import Run
from teammates.models import PermissionPolicy
from teammates.types import JSON


class StepKind(models.TextChoices):
    MODEL = "model", "Model call"
    TOOLS = "tools", "Tool calls"
    COMPACTION = "compaction", "Summary of what came before"


CALLS_A_MODEL = (StepKind.MODEL, StepKind.COMPACTION)


class StepStatus(models.TextChoices):
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    STOPPED = "stopped", "Stopped"  # by a cancel, a failure or a lost worker


class StepQuerySet(models.QuerySet["Step"]):
    def turns(self) -> Self:
        """What was said and done for good: finished, and no summary of it."""
        return self.filter(status=StepStatus.DONE).exclude(kind=StepKind.COMPACTION)


class Step(models.Model):
    """A checkpoint, a row of the timeline, and where a run resumes."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="steps")
    number = models.PositiveIntegerField()
    kind = models.CharField(max_length=10, choices=StepKind.choices)
    status = models.CharField(max_length=7, choices=StepStatus.choices, default=StepStatus.RUNNING)
    attempt = models.PositiveIntegerField()
    first_seq = models.BigIntegerField()  # of its events; the last unless it was lost
    last_seq = models.BigIntegerField(null=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    first_token_ms = models.PositiveIntegerField(null=True)
    model_alias = models.CharField(max_length=200, blank=True, default="")
    model_name = models.CharField(max_length=200, blank=True, default="")
    request = models.JSONField(null=True)  # as sent, for admins
    response = models.JSONField(null=True)  # a providers.base.Turn
    # Of a compaction: the last step that its summary stands for; 0: the history alone.
    covers_until = models.PositiveIntegerField(null=True)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cache_read_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    cost = models.DecimalField(null=True, max_digits=14, decimal_places=6)
    usage_estimated = models.BooleanField(default=False)
    # Other numbers of it (reasoning_tokens and such); `raw`: the provider's words (`usage_told`).
    usage_details = models.JSONField(null=True)
    error = models.TextField(blank=True, default="")

    objects = StepQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("run", "number", name="step_number_once"),
            models.UniqueConstraint(
                "run",
                name="step_one_running_per_run",
                condition=models.Q(status=StepStatus.RUNNING),
            ),
            models.CheckConstraint(
                condition=models.Q(kind__in=StepKind.values), name="step_kind_known"
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=StepStatus.values), name="step_status_known"
            ),
        ]

    def __str__(self) -> str:
        return f"step {self.number} of {self.run_id}"

    @property
    def reasoning_tokens(self) -> int:
        """Of the output, as far as the provider told."""
        numbers = self.usage_details or {}
        return int(numbers.get("reasoning_tokens") or numbers.get("thoughts_tokens") or 0)

    @property
    def usage_told(self) -> JSON:
        """What the provider sent of the call's usage, as it sent it; nothing if it sent none."""
        return (self.usage_details or {}).get("raw") or {}


class CallStatus(models.TextChoices):
    PENDING = "pending", "Waiting its turn"
    RUNNING = "running", "Running"
    WAITING = "waiting", "Needs you"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    DENIED = "denied", "Refused"
    UNKNOWN = "unknown", "May or may not have happened"


class ToolCall(models.Model):
    """Written down before the call is made and after it returned."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="tool_calls")
    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="tool_calls")
    number = models.PositiveIntegerField()  # its place in the step
    call_id = models.CharField(max_length=200)
    name = models.CharField(max_length=200)
    arguments = models.JSONField(null=True)
    status = models.CharField(max_length=7, choices=CallStatus.choices, default=CallStatus.PENDING)
    attempt = models.PositiveIntegerField(null=True)
    title = models.CharField(max_length=200, blank=True, default="")  # the tool's, as it was
    summary = models.TextField(blank=True, default="")  # what this call does, in words
    is_action = models.BooleanField(null=True)  # `Tool.is_action`, as it was; None: not known
    # What was approved (`Tool.digest`): only exactly that may run without asking.
    approved_digest = models.CharField(max_length=64, blank=True, default="")
    # The standing permission that let it through.
    policy = models.ForeignKey(
        PermissionPolicy, null=True, on_delete=models.SET_NULL, related_name="calls"
    )
    result = models.JSONField(null=True)
    # Files that the model is shown with the result: name, kind, file_id (`providers.base.Media`).
    media = models.JSONField(default=list, db_default=[])
    error = models.TextField(blank=True, default="")
    seq = models.BigIntegerField(null=True)  # of its tool.call event
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("step", "number", name="tool_call_number_once"),
            models.CheckConstraint(
                condition=models.Q(status__in=CallStatus.values), name="tool_call_status_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.status})"

    @property
    def is_over(self) -> bool:
        return self.status in (CallStatus.DONE, CallStatus.FAILED, CallStatus.DENIED)
