"""Credits: what an organization may spend, in the unit of v1 (contract v1 2.10)."""

from typing import ClassVar

from django.db import models

from runs.models.run import Run
from teammates.models import Organization, User


class CreditKind(models.TextChoices):
    ADJUSTMENT = "adjustment", "Given or taken"
    RESET = "reset", "Set to nothing"
    RUN = "run", "Used by a run"


class CreditEntry(models.Model):
    """One line of the ledger, with the balance behind it, which is never below nothing."""

    id = models.BigAutoField(primary_key=True)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="credit_entries"
    )
    kind = models.CharField(max_length=10, choices=CreditKind.choices)
    amount = models.BigIntegerField()
    balance = models.PositiveBigIntegerField()
    run = models.ForeignKey(Run, null=True, on_delete=models.SET_NULL, related_name="+")
    note = models.CharField(max_length=500, blank=True, default="")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(kind__in=CreditKind.values), name="credit_kind_known"
            ),
            models.UniqueConstraint(
                "run", name="credit_once_per_run", condition=models.Q(run__isnull=False)
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["organization", "-id"], name="credit_ledger"),
        ]

    def __str__(self) -> str:
        return f"{self.amount:+,} credits, then {self.balance:,}"
