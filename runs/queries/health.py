"""How the installation is doing, for pages."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import connection
from django.db.models import Min

from config.version import version
from runs.models import ProcessKind, Run, RunStatus, WorkerBeat


@dataclass(frozen=True)
class TeammateHealth:
    version: str
    processes: list[WorkerBeat]
    queued: int
    oldest_queued_at: datetime | None
    running: int
    database_bytes: int
    database_version: str
    is_embedded: bool

    @property
    def workers(self) -> list[WorkerBeat]:
        return [one for one in self.processes if one.kind == ProcessKind.WORKER]


def health() -> TeammateHealth:
    queued = Run.objects.filter(status=RunStatus.QUEUED)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database()), version()")
        size, about = cursor.fetchone()
    return TeammateHealth(
        version=version(),
        processes=list(WorkerBeat.objects.order_by("kind", "-seen_at")[:50]),
        queued=queued[:10_000].count(),
        oldest_queued_at=queued.aggregate(at=Min("created_at"))["at"],
        running=Run.objects.filter(status=RunStatus.RUNNING)[:10_000].count(),
        database_bytes=size,
        database_version=" ".join(about.split()[:2]),
        is_embedded=settings.EMBEDDED,
    )
