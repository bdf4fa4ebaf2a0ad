"""Which processes there are: written by each of them, read by people."""

from datetime import timedelta
from typing import ClassVar

from django.conf import settings
from django.db import models


class ProcessKind(models.TextChoices):
    WORKER = "worker", "Works"
    WEB = "web", "Serves"


class WorkerBeat(models.Model):
    """One process's sign of life. How many places the workers have is shared out between
    organizations by it; who may write, leases alone decide."""

    kind = models.CharField(max_length=6, choices=ProcessKind.choices, default=ProcessKind.WORKER)
    name = models.CharField(primary_key=True, max_length=100)
    version = models.CharField(max_length=40)
    started_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField()  # by the database's clock
    running = models.PositiveIntegerField(default=0)
    capacity = models.PositiveIntegerField(default=0)
    memory = models.BigIntegerField(null=True)  # bytes, where the system says so

    class Meta:
        indexes: ClassVar = [models.Index(fields=["-seen_at"], name="worker_beat_seen")]

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def silent_after() -> timedelta:
        """How long a worker may say nothing: a few of its beats, which depend on the lease."""
        return max(timedelta(seconds=15), timedelta(seconds=settings.LEASE_SECONDS))
