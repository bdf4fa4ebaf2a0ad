"""One LISTEN connection per process: PostgreSQL's notifications, handed to whoever wants them.

A wake-up is a hint to look into the database. While the connection is away nothing is lost: after
each reconnect everybody is told to look.
"""

import asyncio
import logging
from collections.abc import Callable

import psycopg

from config.database import direct_conninfo

logger = logging.getLogger("muster.wakeups")

SHORTEST_DELAY = 0.1  # seconds; doubles with each failure

Listener = Callable[[str], None]


class WakeUps:
    """`subscribe` before `run`; listeners are called on the event loop with the payload.

    An empty payload after a reconnect means: look at everything.
    """

    def __init__(self) -> None:
        self._listeners: dict[str, list[Listener]] = {}
        self._delay = SHORTEST_DELAY
        self.is_listening = False

    def subscribe(self, channel: str, listener: Listener) -> None:
        self._listeners.setdefault(channel, []).append(listener)

    async def run(self) -> None:
        """Listen, and reconnect whenever the server goes away, until cancelled."""
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError) as error:
                logger.warning("Wake-ups stopped (%s); reconnecting", str(error).strip())
            await asyncio.sleep(self._delay)
            self._delay = min(self._delay * 2, 5)

    async def _listen(self) -> None:
        connection = await psycopg.AsyncConnection.connect(direct_conninfo(), autocommit=True)
        async with connection:
            for channel in self._listeners:
                await connection.execute(
                    psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel))
                )
            self._delay = SHORTEST_DELAY
            for channel in self._listeners:
                self._tell(channel, "")
            try:
                self.is_listening = True
                async for notification in connection.notifies():
                    self._tell(notification.channel, notification.payload)
            finally:
                self.is_listening = False

    def _tell(self, channel: str, payload: str) -> None:
        for listener in self._listeners.get(channel, []):
            try:
                listener(payload)
            except Exception:
                logger.exception("A listener on %s failed", channel)
