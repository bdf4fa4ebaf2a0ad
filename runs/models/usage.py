"""What a run consumed, per model: written in the terminal transaction."""

from typing import ClassVar

from django.db import models

from runs.models.run import Run
from runs.models.run_status import Channel
from runs.models.task import Task
from teammates.models import APIKey, EndUser, Organization, Teammate, TeammateVersion, User


class Usage(models.Model):
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="usage")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="usage")
    model_name = models.CharField(max_length=200)
    recorded_at = models.DateTimeField(auto_now_add=True)
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cache_read_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    cost = models.DecimalField(  # what is known of it
        max_digits=14, decimal_places=6, default=0
    )
    unpriced_calls = models.PositiveIntegerField(default=0)
    estimated = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("run", "model_name", name="usage_once_per_run_and_model"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["organization", "recorded_at"], name="usage_by_time"),
            models.Index(
                fields=["organization", "recorded_at"],
                name="usage_unpriced",
                condition=models.Q(unpriced_calls__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_name}: {self.input_tokens} in, {self.output_tokens} out"


class DaySums(models.Model):
    """Sums of the runs that ended on a day, kept in the terminal transaction of each.

    People, keys and versions are numbers, also of those that are gone: sums of the past do not
    change with them.
    """

    day = models.DateField()  # UTC's, for programs
    local_day = models.DateField()  # the organization's, for pages
    created_by = models.ForeignKey(
        User, null=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    runs = models.PositiveIntegerField()
    records = models.PositiveIntegerField(default=0)  # of `Usage`: a run has one for each model
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cache_read_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    cost = models.DecimalField(max_digits=14, decimal_places=6)  # what is known of it
    unpriced = models.PositiveIntegerField()  # records (of labels: runs) with calls without a price
    last_at = models.DateTimeField()

    class Meta:
        abstract = True


class UsageDay(DaySums):
    """What was used of one model. Runs are counted once, beside their first model."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="usage_days"
    )
    end_user = models.ForeignKey(
        EndUser, null=True, on_delete=models.CASCADE, related_name="usage_days"
    )
    teammate = models.ForeignKey(Teammate, on_delete=models.CASCADE, related_name="usage_days")
    version = models.ForeignKey(
        TeammateVersion,
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
    )
    task = models.ForeignKey(  # a saved one
        Task, null=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    api_key = models.ForeignKey(
        APIKey, null=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    channel = models.CharField(max_length=10, choices=Channel.choices)
    model_name = models.CharField(max_length=200)  # empty: no model was called

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "organization",
                "day",
                "local_day",
                "end_user",
                "teammate",
                "version",
                "task",
                "created_by",
                "api_key",
                "channel",
                "model_name",
                name="usage_day_once",
                nulls_distinct=False,
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["organization", "end_user", "day"], name="usage_day_end_user"),
            models.Index(fields=["day"], name="usage_day_by_day"),  # `unusual`
        ]

    def __str__(self) -> str:
        return f"{self.day}: {self.model_name}"


class LabelKind(models.TextChoices):
    TOOL = "tool", "Tool"
    TAG = "tag", "Tag"


class UsageLabel(DaySums):
    """What runs with a label used: of a tool that they called, of a tag (`key=value` of their
    metadata). A run counts with each of its labels."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="usage_labels"
    )
    kind = models.CharField(max_length=4, choices=LabelKind.choices)
    label = models.CharField(max_length=200)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "organization",
                "kind",
                "day",
                "local_day",
                "created_by",
                "label",
                name="usage_label_once",
                nulls_distinct=False,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day}: {self.label}"
