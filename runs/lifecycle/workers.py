"""The workers that are there: their heartbeats."""

from django.db.models.functions import Now
from django.utils import timezone

from config.version import version
from runs.models import WorkerBeat


def beat(name: str, *, running: int, capacity: int) -> None:
    """A worker is there."""
    WorkerBeat.objects.update_or_create(
        name=name,
        defaults={"version": version(), "seen_at": Now(), "running": running, "capacity": capacity},
    )


def leave(name: str) -> None:
    WorkerBeat.objects.filter(name=name).delete()


def is_anybody_working() -> bool:
    return WorkerBeat.objects.filter(
        seen_at__gt=timezone.now() - WorkerBeat.silent_after()
    ).exists()
