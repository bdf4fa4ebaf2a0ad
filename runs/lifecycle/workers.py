"""The processes that are there: their heartbeats."""

import os
import secrets
import socket

from django.db import connection
from django.utils import timezone

from config.processes import memory
from config.version import version
from runs.models import ProcessKind, WorkerBeat


def name_of_process() -> str:
    """A name that no other process has or had: machine, process id, and a random part."""
    return f"{machine()}:{os.getpid()}:{secrets.token_hex(3)}"


def machine() -> str:
    """This machine, and on it the name space of process ids (containers have their own)."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        space = 0
    return f"{socket.gethostname()}-{space:x}"


_BEAT = """
INSERT INTO runs_workerbeat (name, kind, version, started_at, seen_at, running, capacity, memory)
VALUES (%s, %s, %s, statement_timestamp(), statement_timestamp(), %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at, running = excluded.running,
    capacity = excluded.capacity, memory = excluded.memory
"""


def beat(name: str, *, running: int = 0, capacity: int = 0, kind: str = ProcessKind.WORKER) -> None:
    """A process is there."""
    with connection.cursor() as cursor:
        cursor.execute(_BEAT, [name, kind, version(), running, capacity, memory()])


def leave(name: str) -> None:
    WorkerBeat.objects.filter(name=name).delete()


def is_anybody_working() -> bool:
    return WorkerBeat.objects.filter(
        kind=ProcessKind.WORKER, seen_at__gt=timezone.now() - WorkerBeat.silent_after()
    ).exists()
