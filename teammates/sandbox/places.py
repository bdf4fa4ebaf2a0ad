"""How many pieces of code run at once in this process, and how many of them for one organization:
one alone leaves a place for the others."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary, WeakValueDictionary

from teammates.sandbox.base import SandboxBroke

AT_ONCE = max(2, os.cpu_count() or 1)
WAIT_SECONDS = 90.0


class _Places:
    def __init__(self) -> None:
        self.free = asyncio.Semaphore(AT_ONCE)
        # While somebody waits or runs.
        self.of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()


_places: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Places]" = WeakKeyDictionary()


@asynccontextmanager
async def place(organization: str) -> AsyncIterator[None]:
    """A place to run code, for an organization of that id. Raises `SandboxBroke` if there is none
    for too long."""
    places = _places.setdefault(asyncio.get_running_loop(), _Places())
    own = places.of.setdefault(organization, asyncio.Semaphore(AT_ONCE - 1))
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await _both(own, places.free)
    except TimeoutError:
        raise SandboxBroke("Too much code runs at this moment. Try again.") from None
    try:
        yield
    finally:
        places.free.release()
        own.release()


async def _both(first: asyncio.Semaphore, second: asyncio.Semaphore) -> None:
    await first.acquire()
    try:
        await second.acquire()
    except BaseException:
        first.release()
        raise
