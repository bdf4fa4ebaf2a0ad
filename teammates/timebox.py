"""What strangers wrote is parsed and drawn in processes of its own, with a budget of time and
memory (invariant 13): one that runs out is killed, and nothing else waits for it.

The functions that run there are pure, at the top of a module that needs no Django.
"""

import asyncio
import atexit
import multiprocessing
import pickle
import resource
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ParamSpec, TypeVar

from pebble import ProcessExpired, ProcessPool

P = ParamSpec("P")
T = TypeVar("T")
PROCESSES = 2
LARGEST = 1024 * 1024 * 1024  # bytes of memory that a process may take
PATIENCE = 10  # seconds of the clock for each second of work: other processes work too
# What the first process loads once, and every later one has from it.
PRELOADED = [
    "teammates.web.drawing",
    "teammates.tools.schemas",
    "teammates.html",
    "runs.inbox.parsing",
]
EXHAUSTED = (TimeoutError, ProcessExpired, BrokenProcessPool, MemoryError, RecursionError)
_pool: ProcessPool | None = None
_lock = threading.Lock()


class TooCostly(Exception):
    """The work took more time or memory than it was given."""


def within(seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` gives within so many seconds of work. The calling thread waits: not for the
    event loop. Raises `TooCostly`, and whatever `function` raises."""
    call = _packed(function, args, kwargs)
    try:
        result: T = pickle.loads(_submit(seconds, call).result())
        return result
    except EXHAUSTED as error:
        raise TooCostly from error


async def awaited(seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`within`, for the event loop."""
    call = _packed(function, args, kwargs)
    try:
        done: Future[bytes] = _submit(seconds, call)
        packed: bytes = await asyncio.wrap_future(done)
        result: T = pickle.loads(packed)
        return result
    except EXHAUSTED as error:
        raise TooCostly from error


def _packed(*call: Any) -> bytes:
    """A call as bytes. Packed here: what cannot be packed is the caller's error, not the pool's."""
    try:
        return pickle.dumps(call)
    except RecursionError as error:
        raise TooCostly from error


def _submit(seconds: float, call: bytes) -> "Future[bytes]":
    global _pool
    with _lock:
        if _pool is None or not _pool.active:
            _pool = _make_pool()
        return _pool.schedule(_work, args=(seconds, call), timeout=seconds * PATIENCE)


def _work(seconds: float, call: bytes) -> bytes:
    # The kernel counts the work and ends the process: no code of a library can hold it up.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        function, args, kwargs = pickle.loads(call)
        return pickle.dumps(function(*args, **kwargs))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _make_pool() -> ProcessPool:
    # Forked from a process that is small and has no threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    pool = ProcessPool(PROCESSES, context=context, initializer=_begin)
    atexit.register(_end, pool)
    return pool


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends these
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST, LARGEST))


def _end(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()
