"""A peer on the same machine, in the same minute: both are driven alternately by one client.

The peer's environment is a folder with its interpreter (`FOLDER/agno/bin/python`); the agent that
it serves is in `peers/`. Figures of two machines, or of two hours, say nothing; ratios do.
"""

import asyncio
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.parse
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from config.errors import StartError
from runs.bench.load import LoadConnection, Sample, require
from runs.bench.site import Site, cpu_seconds_of, free_port

PEERS = Path(__file__).parent / "peers"
ROUNDS = 3
START_SECONDS = 60.0
Figures = dict[str, float]


@dataclass(frozen=True)
class Request:
    """What starts a run and streams it; `token` is what each delta has on the wire."""

    path: str
    body: object
    token: bytes
    kind: str = "application/json"


@dataclass(frozen=True)
class Subject:
    """A server that is driven: Muster, or a peer. `run` gives the request of a new run; `threads`
    are where threads are made and read, and what an answer calls a thread's id."""

    name: str
    port: int
    key: str
    pid: int
    run: Callable[[str], Request]
    threads: tuple[str, str] | None = None


@contextmanager
def agno(folder: Path) -> Iterator[Subject]:
    """agno's AgentOS under uvicorn, over SQLite."""
    command = [str(folder / "agno/bin/python"), "-m", "uvicorn", "agno_app:app"]
    with _started(command, {"AGNO_TELEMETRY": "false"}, "/health") as (port, pid):
        yield Subject("agno", port, "", pid, _agno_run)


@contextmanager
def aegra(folder: Path) -> Iterator[Subject]:
    """Aegra under uvicorn, over the PostgreSQL of `AEGRA_DATABASE_URL`."""
    binaries = folder / "aegra/bin"
    environment = {
        "DATABASE_URL": os.environ.get(
            "AEGRA_DATABASE_URL", "postgresql://postgres@127.0.0.1:5544/aegra"
        ),
        "AEGRA_CONFIG": "aegra.json",
        "LOG_LEVEL": "WARNING",
        "LANGSMITH_TRACING": "false",
        "OTEL_SDK_DISABLED": "true",
        "PATH": f"{binaries}:{os.environ['PATH']}",
    }
    command = [str(binaries / "python"), "-m", "uvicorn", "aegra_api.main:app"]
    with _started(command, environment, "/health") as (port, pid):
        threads = ("/threads", "thread_id")
        yield Subject("Aegra", port, "", pid, lambda kind: _aegra_run(port, kind), threads)


BESIDE = {"agno": agno, "aegra": aegra}


def _muster_run(kind: str) -> Request:
    pause = "0ms" if kind == "flat" else "10ms"
    return Request("/api/v2/runs", {"message": f"slow 200 {pause}", "stream": True}, b"word")


def _agno_run(kind: str) -> Request:
    form = {"message": "hi", "stream": "true", "session_id": str(uuid.uuid4())}
    body = urllib.parse.urlencode(form)
    what = "application/x-www-form-urlencoded"
    return Request(f"/agents/{kind}/runs", body, b"event: RunContent\n", what)


def _aegra_run(port: int, kind: str) -> Request:
    body = {
        "assistant_id": kind,
        "input": {"messages": [{"role": "user", "content": "hi"}]},
        "stream_mode": ["messages-tuple"],
        "if_not_exists": "create",
    }
    return Request(f"/threads/{uuid.uuid4()}/runs/stream", body, b"event: messages")


@contextmanager
def _started(
    command: list[str], environment: dict[str, str], path: str
) -> Iterator[tuple[int, int]]:
    """The port and process id of a peer, once it answers. Raises `StartError`."""
    if not Path(command[0]).exists():
        raise StartError(f"There is no {command[0]}: --peers names the folder of environments.")
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="muster-peer-"))
    for file in PEERS.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        asyncio.run(_until_it_answers(process, port, path))
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


async def _until_it_answers(process: "subprocess.Popen[bytes]", port: int, path: str) -> None:
    ends = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < ends:
        try:
            if (await LoadConnection(port, "").status_of(path)) < 500:
                return
        except (OSError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(0.2)
    raise StartError("The peer does not start; try its command by hand.")


# --- what is measured ---------------------------------------------------------------------------
async def _drive(subject: Subject, kind: str, *, at_once: int, runs: int) -> Figures:
    """So many runs in a closed loop, each streamed to its end."""
    first, total, deltas = Sample(), Sample(), 0
    left = iter(range(runs))

    async def work() -> None:
        nonlocal deltas
        for _ in left:
            connection = LoadConnection(subject.port, subject.key)
            request = subject.run(kind)
            began, is_first, rest = time.perf_counter(), True, b""
            stream = connection.stream("POST", request.path, request.body, kind=request.kind)
            async with stream as chunks:
                async for chunk in chunks:
                    text = rest + chunk
                    found = text.count(request.token)
                    rest = text[-(len(request.token) - 1) :]
                    if found and is_first:
                        first.milliseconds.append((time.perf_counter() - began) * 1000)
                        is_first = False
                    deltas += found
            total.milliseconds.append((time.perf_counter() - began) * 1000)

    before, began = cpu_seconds_of(subject.pid), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    seconds = time.perf_counter() - began
    return {
        "deltas_per_s": deltas / seconds,
        "first_p50_ms": first.percentile(0.5),
        "total_p95_ms": total.percentile(0.95),
        "cpu_ms_per_run": (cpu_seconds_of(subject.pid) - before) * 1000 / runs,
    }


async def _read(subject: Subject, _: str, *, at_once: int, runs: int) -> Figures:
    """So many reads of one thread in a closed loop, over connections that are kept."""
    assert subject.threads is not None
    path, name = subject.threads
    connection = LoadConnection(subject.port, subject.key)
    thread = (await connection.request("POST", path, {}))[1][name]
    connection.close()
    left = iter(range(runs))

    async def work() -> None:
        connection = LoadConnection(subject.port, subject.key)
        for _ in left:
            status, _ = await connection.request("GET", f"{path}/{thread}")
            require(status == 200)
        connection.close()

    before, began = cpu_seconds_of(subject.pid), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return {
        "requests_per_s": runs / (time.perf_counter() - began),
        "cpu_ms": (cpu_seconds_of(subject.pid) - before) * 1000 / runs,
    }


LOADS = (
    (_drive, "flat", 1, 15, ("first_p50_ms",)),
    (_drive, "flat", 50, 150, ("deltas_per_s", "cpu_ms_per_run")),
    (_drive, "paced", 100, 200, ("total_p95_ms",)),
    (_read, "thread", 32, 1500, ("requests_per_s", "cpu_ms")),
)
LOAD_NAMES = sorted({kind for _, kind, *_ in LOADS})


def compare(
    site: Site, peer: Subject, say: Callable[[str], None], *, only: Collection[str]
) -> dict[str, Figures]:
    """Medians of both, and Muster's over the peer's; driven alternately, `ROUNDS` times."""
    muster = Subject("Muster", site.port, site.key, site.pid, _muster_run, ("/v1/threads", "id"))
    results: dict[str, Figures] = {}
    for subject in (muster, peer):  # what is loaded and compiled at the first run is not measured
        asyncio.run(_drive(subject, "flat", at_once=4, runs=40))
    for load, kind, at_once, runs, figures in LOADS:
        if kind not in only or (load is _read and peer.threads is None):
            continue
        measured: dict[str, list[Figures]] = {muster.name: [], peer.name: []}
        for _ in range(ROUNDS):
            for subject in (muster, peer):
                given = asyncio.run(load(subject, kind, at_once=at_once, runs=runs))
                measured[subject.name].append(given)
        for figure in figures:
            ours, theirs = (
                statistics.median(one[figure] for one in measured[subject.name])
                for subject in (muster, peer)
            )
            name = f"{kind}_{at_once}_{figure}"
            results[name] = {"muster": ours, peer.name: theirs, "ratio": ours / theirs}
            say(f"  {name:28} {ours:12,.1f} {theirs:12,.1f} {ours / theirs:8.2f}")
    return results
