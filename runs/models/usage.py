"""What a run consumed, per model: written in the terminal transaction."""

from typing import ClassVar

from django.db import models

from runs.models.run import Run
from teammates.models import EndUser, Organization, Teammate, User


class Usage(models.Model):
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="usage")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="usage")
    model_name = models.CharField(max_length=200)
    recorded_at = models.DateTimeField(auto_now_add=True)
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cache_read_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    cost = models.DecimalField(null=True, max_digits=14, decimal_places=6)
    estimated = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("run", "model_name", name="usage_once_per_run_and_model"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["organization", "recorded_at"], name="usage_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.model_name}: {self.input_tokens} in, {self.output_tokens} out"


class UsageDay(models.Model):
    """The sum of a day (UTC): kept in the terminal transaction of every run, read by pages."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="usage_days"
    )
    day = models.DateField()
    end_user = models.ForeignKey(
        EndUser, null=True, on_delete=models.CASCADE, related_name="usage_days"
    )
    teammate = models.ForeignKey(Teammate, on_delete=models.CASCADE, related_name="usage_days")
    # A number, also of people who are gone: sums of the past do not change with them.
    created_by = models.ForeignKey(
        User, null=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    is_api = models.BooleanField()  # started by a program, else by a person or by itself
    model_name = models.CharField(max_length=200)  # empty: no model was called
    runs = models.PositiveIntegerField()  # counted once, beside their first model
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cache_read_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    cost = models.DecimalField(max_digits=14, decimal_places=6)  # what is known of it
    last_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "organization",
                "day",
                "end_user",
                "teammate",
                "created_by",
                "is_api",
                "model_name",
                name="usage_day_once",
                nulls_distinct=False,
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["organization", "end_user", "day"], name="usage_day_end_user"),
        ]

    def __str__(self) -> str:
        return f"{self.day}: {self.model_name}"
