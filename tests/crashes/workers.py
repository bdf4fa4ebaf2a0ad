"""Workers of a server, to be killed."""

import os
import signal
import subprocess
import sys

import psycopg

from tests.conftest import CHECKOUT, Server, wait_for


class Workers:
    """So many workers are always up; one that is killed is replaced."""

    def __init__(self, server: Server, count: int = 2) -> None:
        self.up: list[int] = []  # their process ids
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.crashes.nursery"],
            cwd=CHECKOUT,
            env=server.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count):
            self._start()

    def _start(self) -> None:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        print(file=self._nursery.stdin, flush=True)
        line = self._nursery.stdout.readline()
        assert "is waiting" in line, line
        self.up.append(pid_of(line.split()[1]))

    def kill(self, pid: int, *, is_replaced: bool = True) -> None:
        """With SIGKILL; returns when it is gone."""
        assert pid in self.up
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not is_there(pid))
        self.up.remove(pid)
        if is_replaced:
            self._start()

    def end(self) -> None:
        for pid in list(self.up):
            self.kill(pid, is_replaced=False)
        self._nursery.kill()
        self._nursery.communicate()


def pid_of(worker: str) -> int:
    """Of a worker's name."""
    return int(worker.split(":")[1])


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def holder_or_over(server: Server, run_uid: str) -> str:
    """The name of the worker that has the run, "" if none has, "over" when it has ended."""
    with psycopg.connect(server.database_url) as connection:
        row = connection.execute(
            "SELECT worker, finished_at FROM runs_run WHERE uid = %s", [run_uid]
        ).fetchone()
    assert row
    return "over" if row[1] else str(row[0])


def kill_holder(server: Server, workers: Workers, run_uid: str) -> None:
    """Kill the worker that has the run, as soon as one has; nothing if it is over."""
    name = wait_for(lambda: holder_or_over(server, run_uid))
    if name != "over":
        workers.kill(pid_of(name))
