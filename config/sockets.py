"""The websocket routes, and who may open them."""

from typing import Any
from urllib.parse import urlsplit

from channels.security.websocket import WebsocketDenier
from django.urls import path, re_path

from runs.streams.websockets import LiveSocket, RunSocket

websocket_urls = [
    path("ws/runs/<int:run_id>/", RunSocket.as_asgi()),
    path("ws/live/", LiveSocket.as_asgi()),
    re_path("", WebsocketDenier.as_asgi()),  # there is nothing else: closed, not crashed
]


class SameOrigin:
    """Lets only pages of this very host in: a websocket carries the session's cookie."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        headers = dict(scope["headers"])
        origin = urlsplit(headers.get(b"origin", b"").decode("latin-1"))
        if origin.netloc and origin.netloc == headers.get(b"host", b"").decode("latin-1"):
            return await self._application(scope, receive, send)
        return await WebsocketDenier()(scope, receive, send)
