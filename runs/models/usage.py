"""What a run consumed, per model: written in the terminal transaction."""

from typing import ClassVar

from django.db import models

from runs.models.run import Run
from teammates.models import Organization


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
