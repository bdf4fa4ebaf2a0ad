"""The event streams, as Channels consumers: no thread and no database connection while they idle.

Django decides (who, which run, from where, in which dialect) and hands the open request over to
`EventStream`; see `hand_over` and `config/asgi.py`.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from channels.generic.http import AsyncHttpConsumer
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from config.database import in_db
from runs.events.log import LoggedEvent
from runs.streams import hub
from runs.streams.process import readers

logger = logging.getLogger("muster.streams")
MOST_UNSENT = 1024 * 1024  # bytes a reader may be behind before its replay pauses
STALLED_SECONDS = 60  # a reader that takes nothing for so long is dropped; it may resume
RECHECK_SECONDS = 60
PLAN = "muster.stream"


class StreamDialect(Protocol):
    """How one kind of reader wants events to be written. Made for one stream."""

    def begin(self) -> bytes:
        """The first bytes, at once."""
        ...

    def write(self, batch: list[LoggedEvent]) -> bytes: ...

    def draws(self, batch: list[LoggedEvent]) -> bool:
        """Whether `write` may take long: then it is not called on the event loop."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether the body ends here although the run goes on (a gate in v2)."""
        ...

    def keep_alive(self) -> bytes: ...

    def end(self) -> bytes:
        """The last bytes, behind the terminal event or the end of a replay."""
        ...


@dataclass(frozen=True)
class StreamPlan:
    run_id: int
    dialect: StreamDialect
    after: int = 0
    live: bool = True
    # Asked again every minute: raises, or returns False, once the reader may read no more.
    still_allowed: Callable[[], bool] | None = None


def hand_over(request: HttpRequest, plan: StreamPlan, headers: dict[str, str]) -> HttpResponse:
    """Answer with an event stream: the response's headers go out, then `EventStream` takes over."""
    if not getattr(request, "is_head", False):
        request.scope[PLAN] = plan  # type: ignore[attr-defined]
    return HttpResponse(
        content_type="text/event-stream; charset=utf-8",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **headers},
    )


class EventStream(AsyncHttpConsumer):
    """Follows a run for one reader. A reader that leaves never stops the run."""

    channel_layer_alias = "none"  # a stream is fed by the hub

    def __init__(self, plan: StreamPlan, headers: list[tuple[bytes, bytes]]) -> None:
        super().__init__()
        self._plan = plan
        self._headers = headers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pump until the stream is over or the reader is gone, whichever comes first."""
        self.scope, self.base_send = scope, send
        pump = asyncio.create_task(self._send_all(), name=f"stream of run {self._plan.run_id}")
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait([pump, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        if not pump.cancelled() and (error := pump.exception()):
            # Broken off rather than ended: the reader must see that something is missing.
            logger.error("A stream broke", exc_info=error)
            scope.get("muster.abort", lambda: None)()

    async def _send_all(self) -> None:
        plan = self._plan
        await self.send_headers(headers=self._headers)
        await self.send_body(plan.dialect.begin(), more_body=True)
        checked = time.monotonic()
        events = hub.follow(
            readers().hub,
            plan.run_id,
            after=plan.after,
            live=plan.live,
            idle=settings.SSE_PING_SECONDS,
        )
        async for batch in events:
            text = await _written(plan.dialect, batch)
            if text:
                await self.send_body(text, more_body=True)
            if plan.dialect.is_over:
                break
            await self._pace()
            if time.monotonic() - checked > RECHECK_SECONDS:
                checked = time.monotonic()
                if plan.still_allowed and not await in_db(plan.still_allowed):
                    break
        await self.send_body(plan.dialect.end())

    async def _pace(self) -> None:
        """Wait for a slow reader: nobody's replay may fill the server's memory."""
        unsent = self.scope.get("muster.unsent", lambda: 0)
        waiting, least = 0.0, unsent()
        while (now := unsent()) > MOST_UNSENT:
            waiting = 0.0 if now < least else waiting + 0.05
            least = min(least, now)
            if waiting > STALLED_SECONDS:
                self.scope["muster.abort"]()
                raise asyncio.CancelledError
            await asyncio.sleep(0.05)


async def _written(dialect: StreamDialect, batch: list[LoggedEvent]) -> bytes:
    if not batch:
        return dialect.keep_alive()
    if dialect.draws(batch):
        return await asyncio.to_thread(dialect.write, batch)
    return dialect.write(batch)


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
