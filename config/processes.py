"""Child processes that do the work, and a parent that starts them, watches them and ends them.

The parent has everything imported and does nothing itself: no event loop, no thread, no connection.
So a child is there at once, and shares its memory until it writes.
"""

import gc
import logging
import os
import random
import select
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

logger = logging.getLogger("muster.processes")
STOP_SECONDS = 9.0  # from the first signal until what is left is killed
SHORTEST_DELAY, LONGEST_DELAY = 0.5, 30.0  # seconds before a child is started again
MOST_BY_DEFAULT = 8  # processes
LASTED_SECONDS = 30.0  # one that lived so long did not fail at its start


@dataclass
class Child:
    """What one process does: `run` is given what to call once it is ready, returns when SIGTERM
    has ended its work, and raises why it cannot go on."""

    name: str
    run: Callable[[Callable[[], None]], None]
    pid: int = 0
    started_at: float = 0.0
    delay: float = SHORTEST_DELAY
    due_at: float = field(default=0.0, repr=False)  # when it is started (again)


class Supervisor:
    """Runs `children` until SIGINT or SIGTERM; a second one ends them at once."""

    def __init__(
        self, children: list[Child], *, on_ready: Callable[[], None], on_stop: Callable[[], None]
    ) -> None:
        self._children = children
        self._on_ready, self._on_stop = on_ready, on_stop
        self._signals = 0
        self._told_ready: set[str] = set()
        self._alive_read, self._alive_write = os.pipe()  # closed with the parent, however it ends
        self._ready_read, self._ready_write = os.pipe()  # a line from each child that is ready
        self._wake_read, self._wake_write = os.pipe()  # a byte for each signal
        for end in (self._ready_read, self._wake_read, self._wake_write):
            os.set_blocking(end, False)

    def run(self) -> None:
        before = {number: signal.signal(number, self._note) for number in _HEARD}
        woken = signal.set_wakeup_fd(self._wake_write)
        gc.collect()
        gc.freeze()  # what is there now is shared, and never looked through again
        try:
            is_ready = False
            while not self._signals:
                self._start_due()
                if not is_ready and self._told_ready >= {child.name for child in self._children}:
                    is_ready = True
                    self._on_ready()
                self._wait(self._until_due())
                self._reap()
            self._on_stop()
            self._stop()
        finally:
            self._kill()
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)
            for end in (
                *(self._alive_read, self._alive_write),
                *(self._ready_read, self._ready_write),
                *(self._wake_read, self._wake_write),
            ):
                os.close(end)

    def _wait(self, seconds: float | None) -> None:
        """Until a signal, a child that is ready, or so many seconds (None: without a limit)."""
        found, _, _ = select.select([self._wake_read, self._ready_read], [], [], seconds)
        if self._wake_read in found:
            os.read(self._wake_read, 4096)
        if self._ready_read in found:
            self._told_ready.update(os.read(self._ready_read, 4096).decode().splitlines())

    def _until_due(self) -> float | None:
        """Seconds until a child is to be started again."""
        due = [child.due_at for child in self._children if not child.pid]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _note(self, number: int, frame: object) -> None:
        self._signals += number != signal.SIGCHLD

    # --- start and end --------------------------------------------------------------------------
    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if not child.pid and now >= child.due_at:
                child.started_at = now
                # A signal that comes in between is for whoever has set what is to happen then.
                signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
                try:
                    child.pid = os.fork()
                except OSError as error:
                    logger.error("%s cannot be started (%s); trying again", child.name, error)
                    self._put_off(child)
                else:
                    if not child.pid:
                        self._become(child)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)

    def _become(self, child: Child) -> NoReturn:
        """In the new process: do its work, and nothing of the parent's."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the parent says SIGTERM
            signal.signal(signal.SIGTERM, _raise_interrupt)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
            os.close(self._alive_write)
            random.seed()
            threading.Thread(target=self._die_with_parent, daemon=True).start()
            child.run(lambda: self._tell_ready(child))
            code = 0
        except KeyboardInterrupt:
            code = 0
        except BaseException:
            logger.exception("%s stopped", child.name)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            try:
                logging.shutdown()
            finally:
                os._exit(code)

    def _die_with_parent(self) -> None:
        os.read(self._alive_read, 1)  # nothing is ever written: it ends when the parent does
        os.kill(os.getpid(), signal.SIGKILL)

    def _tell_ready(self, child: Child) -> None:
        os.write(self._ready_write, f"{child.name}\n".encode())

    def _reap(self) -> None:
        """Note which children have ended, and when they are to be started again."""
        for child in self._children:
            pid, status = os.waitpid(child.pid, os.WNOHANG) if child.pid else (0, 0)
            if not pid:
                continue
            lasted = time.monotonic() - child.started_at
            why = os.waitstatus_to_exitcode(status)
            if not self._signals:
                word = f"signal {-why}" if why < 0 else f"exit code {why}"
                logger.error(
                    "%s (%s) ended with %s; starting it again", child.name, child.pid, word
                )
            child.delay = SHORTEST_DELAY if lasted > LASTED_SECONDS else child.delay
            child.pid = 0
            self._put_off(child)

    @staticmethod
    def _put_off(child: Child) -> None:
        child.due_at = time.monotonic() + child.delay
        child.delay = min(child.delay * 2, LONGEST_DELAY)

    def _stop(self) -> None:
        """End the children; whoever is left after a while, or at a second signal, is killed."""
        for child in self._running():
            os.kill(child.pid, signal.SIGTERM)
        ends_at = time.monotonic() + STOP_SECONDS
        while self._running() and self._signals < 2 and time.monotonic() < ends_at:
            self._wait(ends_at - time.monotonic())
            self._reap()

    def _kill(self) -> None:
        for child in self._running():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            child.pid = 0

    def _running(self) -> list[Child]:
        return [child for child in self._children if child.pid]


_HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)


def _raise_interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def memory() -> int | None:
    """Bytes of this process that are in memory; None where the system does not say."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def split(processes: int) -> tuple[int, int]:
    """How many serve and how many work, of so many processes: from two on, half of them each."""
    webs = max(1, processes // 2)
    return webs, processes - webs


def default_count() -> int:
    """As many as the machine has cores for, and no more than are of use."""
    return max(1, min(os.cpu_count() or 1, MOST_BY_DEFAULT))
