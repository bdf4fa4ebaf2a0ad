"""What is measured. A scenario drives a `Site` from this process and returns figures."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from runs.bench.load import LoadConnection, Sample, require
from runs.bench.site import Site

Figures = dict[str, float]


@dataclass(frozen=True)
class Scenario:
    name: str
    what: str
    run: Callable[[Site, float], Coroutine[Any, Any, Figures]]


async def gateway(site: Site, scale: float) -> Figures:
    """Open loop: 1000 requests a second for a queue of 1000 and 200 workers (contract v1 5.2)."""
    sample, dropped = Sample(), 0
    queue: asyncio.Queue[None] = asyncio.Queue(1000)

    async def work() -> None:
        connection = LoadConnection(site.port, site.key)
        while True:
            await queue.get()
            async with sample.measured(), asyncio.timeout(2):
                status, _ = await connection.request("GET", "/healthz")
                require(status == 200)

    workers = [asyncio.create_task(work()) for _ in range(200)]
    seconds = max(2.0, 30 * scale)
    began = time.perf_counter()
    for tick in range(int(seconds * 100)):
        for _ in range(10):
            if queue.full():
                dropped += 1
            else:
                queue.put_nowait(None)
        await asyncio.sleep(max(0.0, began + (tick + 1) / 100 - time.perf_counter()))
    elapsed = time.perf_counter() - began
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return {
        "rps": len(sample.milliseconds) / elapsed,
        "p50_ms": sample.percentile(0.5),
        "p99_ms": sample.percentile(0.99),
        "ok": sample.ok_share,
        "dropped": dropped,
    }


async def api_crud(site: Site, scale: float) -> Figures:
    """Closed loop, 200 workers: create, read, rename and delete a thread (contract v1 5.2)."""
    sample = Sample()
    ends = time.perf_counter() + max(3.0, 30 * scale)

    async def work() -> None:
        connection = LoadConnection(site.port, site.key)
        while time.perf_counter() < ends:
            async with sample.measured(), asyncio.timeout(20):
                status, thread = await connection.request("POST", "/v1/threads", {"title": "bench"})
                require(status == 201)
                path = f"/v1/threads/{thread['id']}"
                require((await connection.request("GET", path))[0] == 200)
                require((await connection.request("PATCH", path, {"title": "x"}))[0] == 200)
                require((await connection.request("DELETE", path))[0] == 204)
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(200)))
    elapsed = time.perf_counter() - began
    return {
        "cycles_per_s": len(sample.milliseconds) / elapsed,
        "p50_ms": sample.percentile(0.5),
        "p99_ms": sample.percentile(0.99),
        "ok": sample.ok_share,
    }


async def sse_hold(site: Site, scale: float) -> Figures:
    """500 readers hold the stream of one long run (contract v1 5.2)."""
    seconds = max(5.0, 60 * scale)
    run = await site.start_run(f"slow {int(seconds * 2) + 40} 500ms")
    held, connect = 0, Sample()

    async def hold() -> None:
        nonlocal held
        connection = LoadConnection(site.port, site.key)
        began = time.perf_counter()
        is_open = False
        try:
            async with asyncio.timeout(5) as limit:  # for the headers; then for the whole
                async with connection.stream("GET", f"/v1/runs/{run}/events") as chunks:
                    await anext(aiter(chunks))
                    connect.milliseconds.append((time.perf_counter() - began) * 1000)
                    is_open = True
                    left = seconds - (time.perf_counter() - began)
                    limit.reschedule(asyncio.get_running_loop().time() + left)
                    async for _ in chunks:
                        pass
        except TimeoutError:
            held += is_open
        except (OSError, asyncio.IncompleteReadError):
            pass

    before = site.resident_kib()
    watch = asyncio.create_task(_watch(site, seconds))
    await asyncio.gather(*(hold() for _ in range(500)))
    peak, cpu = await watch
    await site.cancel(run)
    return {
        "held": held / 500,
        "connect_p95_ms": connect.percentile(0.95),
        "kib_per_reader": (peak - before) / 500,
        "server_cores": cpu,
    }


async def _watch(site: Site, seconds: float) -> tuple[int, float]:
    """The largest memory (KiB) and the processor time per second of the held part."""
    await asyncio.sleep(seconds * 0.4)
    cpu, began = site.cpu_seconds(), time.perf_counter()
    await asyncio.sleep(seconds * 0.4)
    peak = site.resident_kib()
    return peak, (site.cpu_seconds() - cpu) / (time.perf_counter() - began)


async def worker_runs(site: Site, scale: float) -> Figures:
    """50 threads, 50 runs at once, all followed to their end (contract v1 5.2)."""
    control = LoadConnection(site.port, site.key)
    threads = [(await control.request("POST", "/v1/threads", {}))[1]["id"] for _ in range(50)]
    create, complete, completed = Sample(), Sample(), 0

    async def start(thread: str) -> tuple[str, float]:
        run: dict[str, str] = {}
        connection = LoadConnection(site.port, site.key)
        async with create.measured():
            status, run = await connection.request(
                "POST", f"/v1/threads/{thread}/runs", {"persona_id": "normal"}
            )
            require(status == 201)
        connection.close()
        return run.get("run_id", ""), time.perf_counter()

    async def finish(run: str, created: float) -> None:
        nonlocal completed
        text = await _read_all(site, run)
        complete.milliseconds.append((time.perf_counter() - created) * 1000)
        completed += b"run.completed" in text

    started = await asyncio.gather(*(start(thread) for thread in threads))
    async with asyncio.timeout(60):
        await asyncio.gather(*(finish(run, created) for run, created in started if run))
    control.close()
    return {
        "created": len(create.milliseconds),
        "completed": completed,
        "p50_ms": complete.percentile(0.5),
        "p95_ms": complete.percentile(0.95),
        "max_ms": complete.percentile(1),
    }


async def _read_all(site: Site, run: str) -> bytes:
    connection = LoadConnection(site.port, site.key)
    async with connection.stream("GET", f"/v1/runs/{run}/events?follow=true&after_seq=0") as chunks:
        return b"".join([chunk async for chunk in chunks])


def runs_of_200_deltas(*, at_once: int, delay_ms: int, rounds: int) -> Any:
    """v2 runs of 200 deltas, created and read over one streaming POST each."""

    async def run(site: Site, scale: float) -> Figures:
        first, total, words = Sample(), Sample(), 0
        cpu, began = site.cpu_seconds(), time.perf_counter()

        async def one() -> None:
            nonlocal words
            connection = LoadConnection(site.port, site.key)
            start = time.perf_counter()
            body = {"message": f"slow 200 {delay_ms}ms", "history": False}
            async with connection.stream("POST", "/api/v2/runs", body) as chunks:
                text, is_first = b"", True
                async for chunk in chunks:
                    text += chunk
                    if is_first and b"text-delta" in text:
                        first.milliseconds.append((time.perf_counter() - start) * 1000)
                        is_first = False
            total.milliseconds.append((time.perf_counter() - start) * 1000)
            words += text.count(b"word")

        for _ in range(max(1, round(rounds * scale))):
            await asyncio.gather(*(one() for _ in range(at_once)))
        elapsed = time.perf_counter() - began
        used = site.cpu_seconds() - cpu
        return {
            "runs_per_s": len(total.milliseconds) / elapsed,
            "deltas_per_s": words / elapsed,
            "first_p50_ms": first.percentile(0.5),
            "first_p95_ms": first.percentile(0.95),
            "total_p95_ms": total.percentile(0.95),
            "cpu_us_per_delta": used * 1e6 / max(words, 1),
        }

    return run


async def fan_out(site: Site, scale: float) -> Figures:
    """100 readers of one run that speaks every 10 ms."""
    count = max(100, int(500 * scale))
    run = await site.start_run(f"slow {count} 10ms")
    cpu, began = site.cpu_seconds(), time.perf_counter()
    texts = await asyncio.gather(*(_read_all(site, run) for _ in range(100)))
    elapsed = time.perf_counter() - began
    frames = sum(text.count(b"event: message.delta") for text in texts)
    words = sum(text.count(b"word") for text in texts) // 3  # content, content_delta (twice)
    used = site.cpu_seconds() - cpu
    return {
        "frames_per_s": frames / elapsed,
        "deltas_per_s": words / elapsed,
        "cpu_us_per_delta": used * 1e6 / max(words, 1),
        "same_bytes": float(len({text.replace(b": ping\n\n", b"") for text in texts}) == 1),
    }


async def reads(site: Site, scale: float) -> Figures:
    """One thread, read by 32 workers."""
    connection = LoadConnection(site.port, site.key)
    thread = (await connection.request("POST", "/v1/threads", {}))[1]["id"]
    sample = Sample()
    ends = time.perf_counter() + max(2.0, 10 * scale)

    async def work() -> None:
        mine = LoadConnection(site.port, site.key)
        while time.perf_counter() < ends:
            async with sample.measured():
                require((await mine.request("GET", f"/v1/threads/{thread}"))[0] == 200)
        mine.close()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(32)))
    rate = len(sample.milliseconds) / (time.perf_counter() - began)
    return {"rps": rate, "p50_ms": sample.percentile(0.5), "p95_ms": sample.percentile(0.95)}


async def lists(site: Site, scale: float) -> Figures:
    """The first and the deepest page of 100 000 runs through the API, one request at a time."""
    filled = await asyncio.to_thread(site.fill_with_runs, _rows(scale))
    connection = LoadConnection(site.port, site.key)
    figures: Figures = {"rows": _rows(scale)}
    for name, path in (
        ("first", "/v1/runs?limit=20"),
        ("deepest", f"/v1/runs?limit=20&before={filled.deep_uid}"),
    ):
        sample = Sample()
        for _ in range(60):
            async with sample.measured():
                require((await connection.request("GET", path))[0] == 200)
        figures[f"{name}_p95_ms"] = sample.percentile(0.95)
    connection.close()
    return figures


def _rows(scale: float) -> int:
    return max(2_000, int(100_000 * scale))


async def pages(site: Site, scale: float) -> Figures:
    """The dashboard's pages over 100 000 runs, one request at a time."""
    filled = await asyncio.to_thread(site.fill_with_runs, _rows(scale))
    figures: Figures = {"rows": _rows(scale)}
    shown = {
        "home": "/",
        "runs": "/runs/",
        "runs_deep": f"/runs/?after={filled.deep}",
        "runs_asked": "/runs/?q=status:failed+since:7d",
        "runs_said": "/runs/?q=customer+996",
        "threads": "/threads/",
        "teammates": "/teammates/",
        "files": "/files/",
        "needs_you": "/needs-you/",
        "usage": "/usage/?period=90d",
        "usage_by_two": "/usage/?period=90d&by=teammate&and=trigger",
        "audit": "/settings/audit/",
        "search": "/search/?q=customer+996",
        "search_short": "/search/?q=o",
        "run": f"/runs/{filled.run}/",
        "thread": f"/threads/{filled.thread}/",
    }
    fragments = {
        "board": "/",
        "peek": f"/runs/{filled.run}/peek/",
        "news": f"/runs/news/?after={filled.run}",
        "panel": f"/threads/{filled.thread}/panel/",
    }
    asked: list[tuple[str, str, dict[str, str]]] = [
        (name, path, {}) for name, path in shown.items()
    ]
    asked += [(f"{name}_part", path, {"HX-Request": "true"}) for name, path in fragments.items()]
    for name, path, headers in asked:
        sample = Sample()
        for _ in range(3):  # templates are compiled on first use
            await asyncio.to_thread(site.open_page, path, **headers)
        for _ in range(60):
            async with sample.measured():
                await asyncio.to_thread(site.open_page, path, **headers)
        require(sample.ok_share == 1)
        figures[f"{name}_p95_ms"] = sample.percentile(0.95)
    return figures


SCENARIOS = [
    Scenario("gateway", "GET /healthz, 1000 a second offered", gateway),
    Scenario("api_crud", "thread create, get, patch, delete; 200 workers", api_crud),
    Scenario("sse_hold", "500 readers hold one run", sse_hold),
    Scenario("worker_runs", "50 runs at once", worker_runs),
    Scenario(
        "flat_1",
        "200 deltas, no delay, 1 at once",
        runs_of_200_deltas(at_once=1, delay_ms=0, rounds=20),
    ),
    Scenario(
        "flat_50",
        "200 deltas, no delay, 50 at once",
        runs_of_200_deltas(at_once=50, delay_ms=0, rounds=4),
    ),
    Scenario(
        "flat_100",
        "200 deltas, no delay, 100 at once",
        runs_of_200_deltas(at_once=100, delay_ms=0, rounds=3),
    ),
    Scenario(
        "paced_100",
        "200 deltas, 10 ms apart, 100 at once",
        runs_of_200_deltas(at_once=100, delay_ms=10, rounds=2),
    ),
    Scenario("fan_out", "100 readers of one run", fan_out),
    Scenario("reads", "GET one thread, 32 workers", reads),
    Scenario("lists", "100 000 runs through the API", lists),
    Scenario("pages", "the dashboard over 100 000 runs, times the scale", pages),
]
