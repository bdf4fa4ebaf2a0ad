"""The workers, and how the installation is doing: for pages; nothing else relies on it."""

import tomllib
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models import Min
from django.db.models.functions import Now
from django.utils import timezone

from runs.models import Run, RunStatus, WorkerBeat


def beat(name: str, *, running: int, capacity: int) -> None:
    """A worker is there."""
    WorkerBeat.objects.update_or_create(
        name=name, defaults={"version": version(), "seen_at": Now(), "running": running,
                             "capacity": capacity},
    )  # fmt: skip


def leave(name: str) -> None:
    WorkerBeat.objects.filter(name=name).delete()


def is_anybody_working() -> bool:
    return WorkerBeat.objects.filter(
        seen_at__gt=timezone.now() - WorkerBeat.silent_after()
    ).exists()


@dataclass(frozen=True)
class Health:
    version: str
    workers: list[WorkerBeat]
    queued: int
    oldest_queued_at: datetime | None
    running: int
    database_bytes: int
    database_version: str
    is_embedded: bool


def health() -> Health:
    queued = Run.objects.filter(status=RunStatus.QUEUED)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database()), version()")
        size, about = cursor.fetchone()
    return Health(
        version=version(), workers=list(WorkerBeat.objects.order_by("-seen_at")[:50]),
        queued=queued[:10_000].count(),
        oldest_queued_at=queued.aggregate(at=Min("created_at"))["at"],
        running=Run.objects.filter(status=RunStatus.RUNNING)[:10_000].count(),
        database_bytes=size, database_version=" ".join(about.split()[:2]),
        is_embedded=settings.EMBEDDED,
    )  # fmt: skip


@cache
def version() -> str:
    """The version in `pyproject.toml`: the project is run from its folder, not installed."""
    project = tomllib.loads(Path(settings.BASE_DIR, "pyproject.toml").read_text())
    return str(project["project"]["version"])
