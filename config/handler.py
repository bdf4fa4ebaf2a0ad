"""Django behind ASGI with one hop to a thread a request.

Our middlewares and views are synchronous. Django's own handler would hop three times and make a
thread for each request; this one has bounded pools of them: pages that take long keep no program
waiting, many programs no person, and neither a probe of the server's health.
"""

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from io import SEEK_END
from typing import IO, Any, cast

from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.db import connections
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from config.by_door import Door, door_of


@cache
def _threads(door: Door) -> ThreadPoolExecutor:
    # Few: threads of Python that wait for each other cost more than they do.
    for_programs = settings.REQUEST_THREADS // 2
    counts = {
        "probe": settings.PROBE_THREADS,
        "program": for_programs,
        "page": settings.REQUEST_THREADS - for_programs,
    }
    return ThreadPoolExecutor(counts[door], thread_name_prefix=door)


class Handler(ASGIHandler):
    def __init__(self) -> None:
        BaseHandler.__init__(self)
        self.load_middleware(is_async=False)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        call = partial(contextvars.copy_context().run, self._respond, scope, body)
        loop, threads = asyncio.get_running_loop(), _threads(door_of(scope["path"]))
        response = await loop.run_in_executor(threads, call)
        await self.send_response(response, send)
        if response.streaming:
            await loop.run_in_executor(threads, response.close)

    def _respond(self, scope: Any, body: IO[bytes]) -> HttpResponseBase:
        """The whole response; what the request held is given back before it is sent."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request, refusal = self.create_request(scope, body)
        if request is not None:
            request.META["muster.body_bytes"] = body.seek(0, SEEK_END)
            body.seek(0)
        response: Any = refusal if request is None else self.get_response(request)
        if response.streaming:  # what it sends later asks for connections of its own
            connections.close_all()
        else:
            response.close()  # sends request_finished: the connection goes back to the pool
        body.close()
        return cast(HttpResponseBase, response)
