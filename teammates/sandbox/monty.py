"""The sandbox that is always there: `pydantic-monty`, an interpreter of a safe part of Python.

It knows no network and no processes; its files are those of one folder, of which it cannot leave.
Each piece of code has a process of its own, which ends with it.
"""

import asyncio
import importlib.util
import os
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teammates import timebox
from teammates.sandbox import charts
from teammates.sandbox.base import (
    LARGEST_FILES,
    MOST_FILES,
    SECONDS,
    TOO_LONG,
    TOO_SLOW,
    Output,
    Ran,
    SandboxBroke,
)

if TYPE_CHECKING:
    from pydantic_monty import AsyncMontySession, MontyError, MountDir

AT_ONCE = 2  # pieces of code, of one process of ours
LARGEST_MEMORY = 128 * 1024 * 1024  # bytes
MOST_OPERATIONS = 20_000  # on files: each has us do something
MOST_CHARTS = 20
CHART_SECONDS = 5  # of work, for one chart
FOLDER = "/work"


class Monty:
    about = (
        "A safe part of Python: no network, no other programs, no packages such as pandas. There "
        "are math, random, decimal, datetime, re, json, csv, itertools, functools, collections, "
        "dataclasses, bisect, hashlib, base64 and pathlib; no `yield`, no `del`. `import charts` "
        "draws: charts.bar(labels, values, title='', file='chart.svg'), charts.line and "
        "charts.pie alike; values are numbers, or a dict of series. charts.scatter(pairs, …)."
    )

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)
        self._problem = ""  # of the last time

    def problem(self) -> str:
        if importlib.util.find_spec("pydantic_monty") is None:
            return "pydantic-monty is not installed."
        return self._problem

    async def run(
        self, run: str, code: str, files: dict[str, bytes], show: Callable[[str], None]
    ) -> Ran:
        async with self._free:
            with tempfile.TemporaryDirectory(prefix="muster-") as folder:
                await asyncio.to_thread(_put, Path(folder), files)
                error = await self._run_in(folder, code, show)
                return await asyncio.to_thread(_taken, Path(folder), files, error)

    async def _run_in(self, folder: str, code: str, show: Callable[[str], None]) -> str:
        """Why the code did not end well, if it did not."""
        from pydantic_monty import AsyncMonty, MontyCrashedError, MontyError, MountDir

        pool = AsyncMonty(min_processes=0, max_processes=1, request_timeout=SECONDS + 5)
        mount = MountDir(
            host_path=folder,
            virtual_path=FOLDER,
            mode="read-write",
            write_bytes_limit=LARGEST_FILES,
        )
        try:
            with closing(mount):
                async with pool, _checked_out(pool, folder) as session:
                    return await _feed(session, code, mount, show)
        except MontyCrashedError as error:
            return TOO_SLOW if error.timed_out else "It crashed the interpreter."
        except MontyError as error:
            return _in_words(error)
        except OSError as error:
            self._problem = f"The interpreter could not be started: {error.strerror or error}."
            raise SandboxBroke(self._problem) from error

    async def kept(self) -> list[str]:
        return []

    async def remove(self, run: str) -> None: ...


def _checked_out(pool: Any, folder: str) -> "AsyncMontySession":
    from pydantic_monty import ExternalModule

    pen = _Pen(folder)
    draw: dict[str, Any] = {kind: partial(pen.draw, kind) for kind in charts.KINDS}
    draw["scatter"] = partial(pen.draw, "scatter", None)
    session: AsyncMontySession = pool.checkout(
        limits={
            "max_feed_duration_secs": SECONDS,
            "max_memory": LARGEST_MEMORY,
            "max_suspensions": MOST_OPERATIONS,
        },
        os_policy={"sleep": "zero"},
        print_flush_interval=0.1,
        external_modules={"charts": ExternalModule(draw)},
    )
    return session


async def _feed(
    session: "AsyncMontySession", code: str, mount: "MountDir", show: Callable[[str], None]
) -> str:
    # Its last value stays where it is: it could be large.
    feeding = asyncio.ensure_future(
        session.feed_run(
            code + "\nNone",
            mount=mount,
            cwd=FOLDER,
            print_callback=lambda _, text: loop.call_soon_threadsafe(output.add, text),  # type: ignore[arg-type]
        )
    )
    loop = asyncio.get_running_loop()
    output = Output(show, feeding.cancel)
    try:
        await feeding
    except asyncio.CancelledError:
        if output.is_too_long:
            return TOO_LONG
        raise
    return ""


class _Pen:
    """`charts.bar` and its sisters, for one piece of code. Called in a thread of the library's."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._left = MOST_CHARTS

    def draw(
        self, kind: str, labels: Any, series: Any, title: str = "", file: str = "chart.svg"
    ) -> None:
        if not isinstance(file, str) or not file.endswith(".svg") or {"/", "\0"} & set(file):
            raise ValueError("file must be a name that ends in .svg.")
        if self._left == 0:
            raise ValueError(f"At most {MOST_CHARTS} charts are drawn at once.")
        self._left -= 1
        try:
            drawn = timebox.within(CHART_SECONDS, charts.draw, kind, labels, series, title)
        except timebox.TooCostly:
            raise ValueError("The chart is too complicated.") from None
        (self._folder / file).write_bytes(drawn)


def _in_words(error: "MontyError") -> str:
    """A traceback, or a sentence where it would say nothing."""
    cause, said = error.exception(), str(error)
    if isinstance(cause, TimeoutError) and "time limit" in said:
        return TOO_SLOW
    if isinstance(cause, MemoryError):
        return f"It needs more than the {LARGEST_MEMORY // 2**20} MB of memory that there are."
    if isinstance(cause, RuntimeError) and "suspension limit" in said:
        return f"It did more than {MOST_OPERATIONS} operations on files: write more at once."
    return str(error.display()) if hasattr(error, "display") else said


def _put(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _taken(folder: Path, before: dict[str, bytes], error: str) -> Ran:
    """The files that are in the folder now and were not, or otherwise."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    files = {}
    for name in names:
        content = (folder / name).read_bytes()
        if before.get(name) != content:
            files[name] = content
            if len(files) > MOST_FILES:
                too_many = f"It wrote more than {MOST_FILES} files; none were kept."
                return Ran(f"{error}\n{too_many}".strip())
    return Ran(error, files)
