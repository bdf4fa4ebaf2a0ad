"""Which workers there are: written by each of them, read by people."""

from typing import ClassVar

from django.db import models


class WorkerBeat(models.Model):
    """One worker's sign of life. Nothing depends on it: leases alone decide who may write."""

    name = models.CharField(primary_key=True, max_length=100)
    version = models.CharField(max_length=40)
    started_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField()  # by the database's clock
    running = models.PositiveIntegerField(default=0)
    capacity = models.PositiveIntegerField(default=0)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["-seen_at"], name="worker_beat_seen")]

    def __str__(self) -> str:
        return self.name
