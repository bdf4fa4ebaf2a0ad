"""The sandbox that is always there: `pydantic-monty`, an interpreter of a safe part of Python.

It knows no network and no processes; its files are those of one folder, of which it cannot leave.
Each piece of code has a process of its own, which ends with it.
"""

import asyncio
import importlib.util
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
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
    TOO_MANY,
    TOO_SLOW,
    Output,
    Ran,
    SandboxBroke,
)

if TYPE_CHECKING:
    from pydantic_monty import AsyncMontySession, MontyError, MountDir

LARGEST_MEMORY = 128 * 1024 * 1024  # bytes
MOST_OPERATIONS = 20_000  # on files: each has us do something
MOST_CHARTS = 20
CHART_SECONDS = 10.0  # for all of them
CLEAN_SECONDS = 3600  # after which a folder is a killed process's
PREFIX = "muster-sandbox-"
FOLDER = "/work"


class Monty:
    about = (
        "A safe part of Python: no network, no other programs, no packages such as pandas. There "
        "are math, random, decimal, datetime, re, json, csv, itertools, functools, collections, "
        "dataclasses, bisect, hashlib, base64 and pathlib; no `yield`, no `del`. `import charts` "
        "draws: charts.bar(labels, values, title='', file='chart.svg'), charts.line and "
        "charts.pie alike; values are numbers, or a dict of series. charts.scatter(pairs, …)."
    )

    def problem(self) -> str:
        is_there = importlib.util.find_spec("pydantic_monty") is not None
        return "" if is_there else "pydantic-monty is not installed."

    async def run(
        self, run: str, code: str, files: dict[str, bytes], show: Callable[[str], None]
    ) -> Ran:
        folder = tempfile.mkdtemp(prefix=PREFIX)
        try:
            await asyncio.to_thread(_put, Path(folder), files)
            error = await self._run_in(folder, code, show)
            return await asyncio.to_thread(_taken, Path(folder), files, error)
        finally:
            await asyncio.shield(_remove(folder))

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
        except (OSError, RuntimeError) as error:
            raise SandboxBroke("The interpreter could not be started. Try again.") from error

    async def tidy(self, working: Callable[[list[str]], Awaitable[set[str]]]) -> None:
        for folder in await asyncio.to_thread(_left_over):
            await _remove(folder)


def _left_over() -> list[str]:
    """Folders of processes that were killed."""
    old = time.time() - CLEAN_SECONDS
    folders = Path(tempfile.gettempdir()).glob(f"{PREFIX}*")
    return [str(folder) for folder in folders if folder.stat().st_mtime < old]


async def _remove(folder: str) -> None:
    """Not with `shutil`: code can nest folders more deeply than that follows."""
    removing = await asyncio.create_subprocess_exec("rm", "-rf", "--", folder)
    await removing.wait()


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
        # Its own clock stands still while we work for it.
        async with asyncio.timeout(SECONDS + CHART_SECONDS):
            await feeding
    except TimeoutError:
        return TOO_SLOW
    except asyncio.CancelledError:
        if output.is_too_long:
            return TOO_LONG
        raise
    return ""


class _Pen:
    """`charts.bar` and its sisters, for one piece of code. Called in a thread of the library's."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._left, self._seconds = MOST_CHARTS, CHART_SECONDS

    def draw(
        self, kind: str, labels: Any, series: Any, title: str = "", file: str = "chart.svg"
    ) -> None:
        if not isinstance(file, str) or not file.endswith(".svg") or {"/", "\0"} & set(file):
            raise ValueError("file must be a name that ends in .svg.")
        if self._left == 0 or self._seconds <= 0:
            raise ValueError(f"At most {MOST_CHARTS} charts are drawn at once.")
        self._left -= 1
        began = time.monotonic()
        try:
            drawn = timebox.within(self._seconds, charts.draw, kind, labels, series, title)
            (self._folder / file).write_bytes(drawn)
        except timebox.TooCostly:
            raise ValueError("The chart is too complicated.") from None
        except OSError:
            raise ValueError(f"{file} cannot be written.") from None
        finally:
            self._seconds -= time.monotonic() - began


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
    files: dict[str, bytes] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if not entry.is_file(follow_symlinks=False):
            continue
        content = (folder / entry.name).read_bytes()
        if before.get(entry.name) != content:
            files[entry.name] = content
            if len(files) > MOST_FILES:
                return Ran(f"{error}\n{TOO_MANY}".strip())
    return Ran(error, files)
