"""The websockets: of one run (the v1 event object, resumable by `?after_seq=`), and of a tab."""

import asyncio
import json
import logging
import time
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from channels.generic.websocket import AsyncWebsocketConsumer

from config.database import in_db
from runs.events.log import LoggedEvent
from runs.models import Run
from runs.streams import hub
from runs.streams.frames_v1 import event_object
from runs.streams.live import Watcher
from runs.streams.process import readers
from runs.streams.sse import RECHECK_SECONDS
from teammates.access import Access
from teammates.models import User
from teammates.types import JSON
from teammates.web.pages import access_of_session, number_of

logger = logging.getLogger("muster.sockets")


def _encoded(event: LoggedEvent, run: Run) -> str:
    return json.dumps(event_object(event, str(run.uid)))


class RunSocket(AsyncWebsocketConsumer):
    """`/ws/runs/{id}/`: closes with 4404 if there is no such run for the session."""

    channel_layer_alias = "none"

    async def connect(self) -> None:
        self._pump: asyncio.Task[None] | None = None
        run = await in_db(self._find)
        await self.accept()
        if run is None:
            await self.close(code=4404)
            return
        query = parse_qs(self.scope["query_string"].decode())
        after = query.get("after_seq", ["0"])[0]
        self._pump = asyncio.create_task(self._send_all(run, number_of(after) or 0))

    def _find(self) -> Run | None:
        user = User.objects.filter(pk=self.scope["user"].pk).first()
        access = access_of_session(user, self.scope["session"]) if user else None
        if access is None or not access.may("data.runs.read"):
            return None
        run_id = self.scope["url_route"]["kwargs"]["run_id"]
        return Run.objects.visible_to(access).filter(pk=run_id).first()

    async def _send_all(self, run: Run, after: int) -> None:
        code, checked = 1000, time.monotonic()
        try:
            async for batch in hub.follow(readers().hub, run.pk, after=after):
                for event in batch:
                    await self.send(text_data=event.frame("socket", partial(_encoded, event, run)))
                if time.monotonic() - checked > RECHECK_SECONDS:
                    checked = time.monotonic()
                    if await in_db(self._find) is None:
                        code = 4404
                        break
        except Exception:
            logger.exception("A websocket broke")
            code = 1011
        await self.close(code=code)

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        """Nothing is said to a run here; its verbs are HTTP."""

    async def disconnect(self, code: int) -> None:
        if self._pump is not None:
            self._pump.cancel()


class LiveSocket(AsyncWebsocketConsumer):
    """`/ws/live/`: one per tab; what needs the person who is signed in."""

    channel_layer_alias = "none"

    async def connect(self) -> None:
        self._watcher: Watcher | None = None
        self._pump: asyncio.Task[None] | None = None
        self._latest: JSON | None = None
        self._changed = asyncio.Event()
        access = await in_db(self._find)
        await self.accept()
        if access is None:
            await self.close(code=4404)
            return
        self._watcher = Watcher(access, self._tell)
        self._pump = asyncio.create_task(self._send_latest())
        await readers().board.open(self._watcher)

    def _find(self) -> Access | None:
        user = User.objects.filter(pk=self.scope["user"].pk).first()
        access = access_of_session(user, self.scope["session"]) if user else None
        return access if access is not None and access.may("data.runs.read") else None

    def _tell(self, message: JSON) -> None:
        self._latest = message
        self._changed.set()

    async def _send_latest(self) -> None:
        """A slow reader gets the newest state, not every state that was."""
        checked = time.monotonic()
        while True:
            await self._changed.wait()
            self._changed.clear()
            if time.monotonic() - checked > RECHECK_SECONDS:
                checked = time.monotonic()
                access = await in_db(self._find)
                if access is None:
                    await self.close(code=4404)
                    return
                if self._watcher is not None and access.role != self._watcher.access.role:
                    self._watcher.access = access  # what was made for the old role is not sent
                    await readers().board.open(self._watcher)
                    continue
            await self.send(text_data=json.dumps(self._latest))

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        """Nothing is said here; verbs are HTTP."""

    async def disconnect(self, code: int) -> None:
        if self._watcher is not None:
            readers().board.close(self._watcher)
        if self._pump is not None:
            self._pump.cancel()
