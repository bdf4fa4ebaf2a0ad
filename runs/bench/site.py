"""The server that is measured: `manage.py start` in a process and on a folder of its own."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from config.errors import StartError
from config.postgres import Cluster
from runs.bench.filling import Filled, fill
from runs.bench.load import LoadConnection

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Site:
    port: int
    key: str
    folder: Path
    pid: int
    start_seconds: float
    setup_link: str
    _pages: httpx2.Client | None = field(default=None)
    _filled: Filled | None = field(default=None)

    def cpu_seconds(self) -> float:
        """Processor time of the server's processes so far; PostgreSQL's is not in it."""
        return cpu_seconds_of(self.pid)

    def resident_kib(self) -> int:
        """Of the largest of its processes."""
        return max(_resident_kib(pid) for pid in _family(self.pid))

    async def start_run(self, message: str) -> str:
        """A v1 run; returns its id."""
        connection = LoadConnection(self.port, self.key)
        thread = (await connection.request("POST", "/v1/threads", {}))[1]["id"]
        await connection.request("POST", f"/v1/threads/{thread}/messages", {"content": message})
        run = (await connection.request("POST", f"/v1/threads/{thread}/runs", {}))[1]["run_id"]
        connection.close()
        return str(run)

    async def cancel(self, run: str) -> None:
        connection = LoadConnection(self.port, self.key)
        await connection.request("POST", f"/v1/runs/{run}:cancel")
        connection.close()

    def fill_with_runs(self, count: int) -> Filled:
        """As an organization is after `count` runs; once, whatever is asked for later."""
        if self._filled is None:
            self.open_page("/")  # the owner, whose runs half of them are
            with httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False) as client:
                headers = {"authorization": f"Bearer {self.key}"}
                client.post("/api/v2/runs", headers=headers, json={"message": "Hello"}, timeout=60)
                items = client.get("/v1/runs?status=completed&limit=1", headers=headers).json()
            with Cluster(self.folder).connect("muster") as connection:
                self._filled = fill(connection, like=items[0]["run_id"], count=count)
        return self._filled

    def open_page(self, path: str, **headers: str) -> None:
        """Open a page as the owner, who is made the first time."""
        if self._pages is None:
            self._pages = httpx2.Client(
                base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=30
            )
            self._pages.get(self.setup_link)
            token = self._pages.cookies["csrftoken"]
            self._pages.post(
                self.setup_link,
                data={
                    "csrfmiddlewaretoken": token,
                    "organization_name": "Bench",
                    "timezone": "UTC",
                    "email": "bench@example.com",
                    "password": "bench_pwd_123456",
                },
            )
        response = self._pages.get(path, headers=headers)
        if response.status_code != 200:
            raise ValueError(f"{path} answered {response.status_code}")


def cpu_seconds_of(pid: int) -> float:
    """Processor time of a process and its children so far."""
    return sum(
        (int(fields[11]) + int(fields[12])) / TICKS for fields in map(_stat, _family(pid)) if fields
    )


def _family(pid: int) -> list[int]:
    """A process and its children; PostgreSQL is no child."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:  # it has just ended
        return []


def _resident_kib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) if found else 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(server: str) -> Iterator[Site]:
    """Start a server, by Daphne or uvicorn, for the time of the benchmark. Raises `StartError`."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="muster-bench-"))
    folder.chmod(0o711)
    environment = os.environ | {"MUSTER_DATA": str(folder / "data"), "PYTHONUNBUFFERED": "1"}
    environment.pop("DATABASE_URL", None)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody's server compiles itself each time
    # The first start makes the cluster; what is measured is the second.
    said = ""
    for attempt in (1, 2):
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "manage.py", "start", "--port", str(port), "--server", server],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        now = _read_welcome(process)
        said += now
        seconds = time.perf_counter() - began
        if attempt == 1:
            _end(process)
    links = re.findall(r"http\S+/setup/\S+/", said)
    key = re.search(r"m8_[0-9a-f]{64}", said)
    assert key
    try:
        yield Site(port, key.group(0), folder / "data", process.pid, seconds, links[-1])
    finally:
        _end(process)


def _read_welcome(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Stop it with Ctrl-C" in line:
            return said
    raise StartError(f"The server of the benchmark did not start: {said.strip()}")


def _end(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    if process.stdout:
        process.stdout.close()
