"""The sandbox with all of Python: a container without a network, one for each run.

It is kept between the run's pieces of code, and its processes and folder are the run's alone. What
comes out of it was written by strangers: it is read within limits, and no name of it is followed.
"""

import asyncio
import codecs
import hashlib
import io
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable

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

MEMORY, PROCESSES, CPUS = "1g", 256, 1
LONGEST_LIFE = 6 * 3600  # seconds; then it ends by itself, whatever became of us
ASK_SECONDS = 10.0  # for an answer of the program
START_SECONDS = 60.0
PROBLEM_SECONDS = 60.0  # that an answer to `problem` counts
OWNER_LABEL = "muster.owner"
MOST_KNOWN = 1_000  # files in its folder
FOLDER = "/work"


class Container:
    about = (
        "Python 3 with pandas, numpy, matplotlib, openpyxl and pypdf in a Linux container without "
        "a network; subprocess runs shell commands. Installed packages and other folders than "
        "the working folder are lost with the run. Save charts with plt.savefig('chart.png')."
    )

    def __init__(self, program: str, image: str, owner: str) -> None:
        """`program`: docker or podman. `owner`: which containers are this installation's."""
        self._program, self._image, self._owner = program, image, owner
        self._problem, self._asked_at = "", float("-inf")
        self._asking = threading.Lock()
        self._known: dict[str, dict[str, str]] = {}  # by run and name: digests of what was there

    def problem(self) -> str:
        is_old = time.monotonic() - self._asked_at > PROBLEM_SECONDS
        if is_old and self._asking.acquire(blocking=False):
            try:
                self._problem, self._asked_at = self._look_for_problem(), time.monotonic()
            finally:
                self._asking.release()
        return self._problem

    def _look_for_problem(self) -> str:
        asked = [self._program, "image", "inspect", "--format", "{{.Id}}", self._image]
        try:
            done = subprocess.run(asked, capture_output=True, timeout=ASK_SECONDS, check=False)
        except FileNotFoundError:
            return f"{self._program} is not installed on this machine."
        except OSError:
            return f"{self._program} cannot be started."
        except subprocess.TimeoutExpired:
            is_first = self._asked_at < 0
            return f"{self._program} does not answer." if is_first else self._problem
        said = done.stderr.decode(errors="replace").strip()
        if done.returncode == 0:
            return ""
        if "no such" in said.lower() or "not known" in said.lower():
            return (
                f"There is no image {self._image!r} yet: `manage.py build_sandbox` makes it, or "
                "MUSTER_SANDBOX_IMAGE names another one."
            )
        return f"{self._program} says: {said[-300:] or done.returncode}"

    async def run(
        self, run: str, code: str, files: dict[str, bytes], show: Callable[[str], None]
    ) -> Ran:
        name, packed = self._name(run), await asyncio.to_thread(_packed, files)
        put = ("exec", "-i", name, "tar", "-xf", "-", "-C", FOLDER)
        await self._start(name)
        try:
            await self._ask(*put, given=packed)
        except SandboxBroke:  # earlier code left no room in it, of memory or of processes
            await self._remove(run)
            await self._start(name)
            await self._ask(*put, given=packed)
        error, is_gone = await self._execute(name, code, show)
        if is_gone:
            return Ran(error)
        try:
            packed = await self._ask("exec", name, "tar", "-cf", "-", "-C", FOLDER, ".")
        except SandboxBroke as broken:  # the code left too little room for that
            await self._remove(run)
            return Ran(f"{error}\nIts files are lost. {broken}".strip())
        before = self._known.get(run, {}) | {name: _digest(one) for name, one in files.items()}
        ran, self._known[run] = await asyncio.to_thread(_taken, packed, before, error)
        return ran

    async def _start(self, name: str) -> None:
        """Start the container of that name, unless it runs."""
        state = await self._ask("inspect", "--format", "{{.State.Running}}", name, may_fail=True)
        if state.strip() == b"true":
            return
        await self._drop(name)
        limits = [
            *("--network", "none", "--read-only", "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges", "--user", "65534:65534"),
            *("--memory", MEMORY, "--memory-swap", MEMORY, "--cpus", str(CPUS)),
            *("--pids-limit", str(PROCESSES), "--ulimit", "nofile=1024:1024"),
            *("--ulimit", "core=0:0", "--stop-timeout", "0"),
            *("--tmpfs", f"{FOLDER}:rw,size={LARGEST_FILES},mode=1777"),
            *("--tmpfs", f"/tmp:rw,size={LARGEST_FILES},mode=1777"),
        ]
        surroundings = ("HOME=/tmp", "MPLBACKEND=Agg", "MPLCONFIGDIR=/tmp", "PYTHONUNBUFFERED=1")
        await self._ask(
            *("run", "--detach", "--rm", "--pull", "never", "--name", name, "--workdir", FOLDER),
            *("--label", f"{OWNER_LABEL}={self._owner}", *limits),
            *(part for one in surroundings for part in ("--env", one)),
            *(self._image, "sleep", str(LONGEST_LIFE)),
            seconds=START_SECONDS,
        )

    async def _execute(self, name: str, code: str, show: Callable[[str], None]) -> tuple[str, bool]:
        """Why the code did not end well, and whether the container went with it."""
        process = await self._open("exec", "-i", name, "python3", "-P", "-")
        assert process.stdin is not None
        assert process.stdout is not None
        reading: asyncio.Task[None] | None = None
        output = Output(show, lambda: reading and reading.cancel())
        reading = asyncio.ensure_future(_talk(process, code, output))
        try:
            async with asyncio.timeout(SECONDS):
                await reading
                status = await process.wait()
        except BaseException as error:
            # Its processes go with it: nobody else can be sure to have ended them all.
            try:
                await asyncio.shield(self._drop(name))
            finally:
                await _end(process)
            if isinstance(error, TimeoutError):
                return TOO_SLOW, True
            if isinstance(error, asyncio.CancelledError) and output.is_too_long:
                return TOO_LONG, True
            raise
        if status == 137:
            return f"It was ended: it needs more than {MEMORY} of memory, perhaps.", False
        return ("" if status == 0 else f"It ended with status {status}."), False

    async def tidy(self, working: Callable[[list[str]], Awaitable[set[str]]]) -> None:
        of_us = f"label={OWNER_LABEL}={self._owner}"
        listed = await self._ask("ps", "-a", "--filter", of_us, "--format", "{{.Names}}")
        names = listed.decode(errors="replace").split()
        kept = [name.removeprefix(self._name("")) for name in names]
        for run in set(kept) - await working(kept):
            await self._remove(run)

    async def _remove(self, run: str) -> None:
        self._known.pop(run, None)
        await self._drop(self._name(run))

    async def _drop(self, name: str) -> None:
        """Remove a container, if there is one of that name."""
        await self._ask("rm", "-f", name, may_fail=True, seconds=START_SECONDS)

    def _name(self, run: str) -> str:
        return f"muster-{self._owner}-{run}"

    async def _ask(
        self,
        *words: str,
        given: bytes | None = None,
        may_fail: bool = False,
        seconds: float = ASK_SECONDS,
    ) -> bytes:
        """What the program answers. Raises `SandboxBroke` if it fails or is silent, unless it
        `may_fail`."""
        process = await self._open(*words, errors=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.timeout(seconds):
                answer, said, _ = await asyncio.gather(
                    _limited(process.stdout, 2 * LARGEST_FILES),
                    _limited(process.stderr, 10_000),
                    _give(process, given or b""),
                )
                status = await process.wait()
        except TimeoutError:
            if may_fail:
                return b""
            raise SandboxBroke(f"{self._program} did not answer.") from None
        finally:
            await _end(process)
        if status and not may_fail:
            words_said = said.decode(errors="replace").strip()[-300:]
            raise SandboxBroke(f"{self._program} could not do it: {words_said or status}.")
        return answer

    async def _open(
        self, *words: str, errors: int = asyncio.subprocess.STDOUT
    ) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                self._program,
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the server
                cwd=tempfile.gettempdir(),  # podman leaves a note there of what ran out of memory
            )
        except OSError as error:
            raise SandboxBroke(f"{self._program} could not be started.") from error


async def _talk(process: asyncio.subprocess.Process, code: str, output: Output) -> None:
    assert process.stdout is not None
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    giving = asyncio.ensure_future(_give(process, code.encode(errors="replace")))
    while chunk := await process.stdout.read(65536):
        output.add(decoder.decode(chunk))
    output.add(decoder.decode(b"", final=True))
    await giving


async def _give(process: asyncio.subprocess.Process, given: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(given)
        await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it ended without having read all: its status says how


async def _limited(stream: asyncio.StreamReader, most: int) -> bytes:
    """All that comes, if it is no more than that. Raises `SandboxBroke`."""
    chunks, size = [], 0
    while chunk := await stream.read(65536):
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            raise SandboxBroke("The container gave out more than its files can be.")
    return b"".join(chunks)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.communicate()


def _packed(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o666
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _taken(packed: bytes, before: dict[str, str], error: str) -> tuple[Ran, dict[str, str]]:
    """The files of the folder itself that were not there, or otherwise, and the digests of all."""
    files: dict[str, bytes] = {}
    digests: dict[str, str] = {}
    room = LARGEST_FILES
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if not member.isreg() or member.issparse() or "/" in name:
                    continue
                room -= member.size
                if room < 0 or len(digests) >= MOST_KNOWN:
                    raise SandboxBroke("The working folder holds more than can be kept.")
                stored = archive.extractfile(member)
                content = stored.read() if stored else b""
                digests[name] = _digest(content)
                if before.get(name) != digests[name] and len(files) <= MOST_FILES:
                    files[name] = content
    except (tarfile.TarError, ValueError, EOFError) as broken:
        raise SandboxBroke("The files of the container could not be read.") from broken
    if len(files) > MOST_FILES:
        return Ran(f"{error}\n{TOO_MANY}".strip()), digests
    return Ran(error, files), digests


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def owner_of(secret: str) -> str:
    """A short name for an installation, which tells nothing of its secret."""
    return hashlib.sha256(f"sandbox:{secret}".encode()).hexdigest()[:12]
