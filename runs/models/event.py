"""The event log of a run: written by events.py alone, never edited."""

from typing import ClassVar

from django.db import models

from runs.models.run import Run


class Event(models.Model):
    pk = models.CompositePrimaryKey("run_id", "seq")
    # The run's row is locked by every append, so the check of a foreign key would only cost.
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="events", db_constraint=False
    )
    seq = models.BigIntegerField()
    type = models.CharField(max_length=40)
    data = models.JSONField()
    created_at = models.DateTimeField(db_default=models.functions.Now())

    class Meta:
        ordering: ClassVar = ["run_id", "seq"]

    def __str__(self) -> str:
        return f"{self.run_id}/{self.seq} {self.type}"
