"""Gates: pending human decisions."""

from typing import ClassVar

from django.db import models
from django.utils import timezone

from runs.models.run import Run
from runs.models.step import ToolCall
from teammates.fields import Identified, iff
from teammates.models import PermissionPolicy, User


class GateKind(models.TextChoices):
    APPROVAL = "approval", "Approval"
    QUESTION = "question", "Question"
    PLAN = "plan", "Plan"
    UNKNOWN = "unknown", "Did it happen?"
    BUDGET = "budget", "Budget"
    LOOP = "loop", "In circles"


class GateStatus(models.TextChoices):
    PENDING = "pending", "Pending"
    ALLOWED = "allowed", "Allowed"
    DENIED = "denied", "Denied"
    TIMEOUT = "timeout", "Expired"
    CANCELLED = "cancelled", "Cancelled"


# Answered with words rather than yes or no.
ASKING = (GateKind.QUESTION, GateKind.PLAN, GateKind.BUDGET, GateKind.LOOP)
BRAKES = (GateKind.BUDGET, GateKind.LOOP)  # of no tool call: Muster itself asks
# At these a run waits; what a program outside asks, it decides while the run goes on.
WAITED_AT = models.Q(tool_call__isnull=False) | models.Q(kind__in=BRAKES)


class DecidedVia(models.TextChoices):
    PAGE = "page", "the page"
    API = "api", "a program"
    MAIL = "mail", "a link in an e-mail"
    MODE = "mode", "a change of the mode"
    TIME = "time", "the time that passed"


class Gate(Identified):
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="gates")
    # None: of a brake; or a program outside asked (contract v2 4.6), and the run does not wait.
    tool_call = models.ForeignKey(
        ToolCall, null=True, on_delete=models.CASCADE, related_name="gates"
    )
    kind = models.CharField(max_length=8, choices=GateKind.choices)
    status = models.CharField(max_length=9, choices=GateStatus.choices, default=GateStatus.PENDING)
    prompt = models.TextField()  # composed by the server
    tool_name = models.CharField(max_length=255, default="")
    request = models.JSONField()  # the arguments as shown, secrets masked
    card = models.JSONField(default=dict)  # what a card shows besides (`gates.cards`)
    digest = models.CharField(max_length=64, default="")  # of tool, version and arguments
    approvals_needed = models.PositiveSmallIntegerField(default=1)
    expires_at = models.DateTimeField(null=True)  # then `decisions.expire_due` decides
    answer = models.JSONField(null=True)
    decided_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    decided_at = models.DateTimeField(null=True)
    decided_via = models.CharField(max_length=4, blank=True, default="", choices=DecidedVia.choices)
    # The standing permission that was made of the decision.
    remembered = models.ForeignKey(
        PermissionPolicy, null=True, on_delete=models.SET_NULL, related_name="made_by"
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "run",
                name="gate_one_pending_per_run",
                condition=models.Q(status="pending") & WAITED_AT,
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
        indexes: ClassVar = [
            models.Index(
                fields=["expires_at"],
                name="gate_due",
                condition=models.Q(status="pending", expires_at__isnull=False),
            ),
            models.Index(
                fields=["-decided_at", "-id"],
                name="gate_history",
                condition=models.Q(decided_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} in {self.run_id} ({self.status})"

    @property
    def end_user_id(self) -> int | None:
        return self.run.end_user_id

    @property
    def is_waited_at(self) -> bool:
        """Whether the run stands still until it is decided."""
        return self.tool_call_id is not None or self.kind in BRAKES

    @property
    def is_pending(self) -> bool:
        return self.status == GateStatus.PENDING

    @property
    def may_be_among_others(self) -> bool:
        """Whether it may be approved together with others, from a list."""
        is_plain = self.kind == GateKind.APPROVAL and self.approvals_needed == 1
        return is_plain and self.card.get("risk") != "high" and not self.card.get("hidden")

    @property
    def asks_in_words(self) -> bool:
        return self.kind in ASKING

    @property
    def auto_resolved(self) -> bool:
        return self.decided_via == DecidedVia.TIME and self.kind == GateKind.QUESTION


class GateVote(models.Model):
    """One of the two people that a two-person approval needs."""

    gate = models.ForeignKey(Gate, on_delete=models.CASCADE, related_name="votes")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    voted_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint("gate", "user", name="gate_vote_once")]

    def __str__(self) -> str:
        return f"{self.user} on {self.gate_id}"


class GateVisit(models.Model):
    """Somebody's look at a gate: others see it for a minute. And whether they put it aside."""

    gate = models.ForeignKey(Gate, on_delete=models.CASCADE, related_name="visits")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    seen_at = models.DateTimeField(default=timezone.now)
    snoozed_until = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint("gate", "user", name="gate_visit_once")]

    def __str__(self) -> str:
        return f"{self.user} at {self.gate_id}"
