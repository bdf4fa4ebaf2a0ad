"""The ASGI application: static files, Django, the streams that Django hands over, websockets."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django as django_package

django_package.setup(set_prefix=False)

from typing import Any  # noqa: E402

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from config.handler import Handler  # noqa: E402
from config.sockets import SameOrigin, websocket_urls  # noqa: E402
from config.static import with_static_files  # noqa: E402
from runs.streams.sse import PLAN, EventStream  # noqa: E402


class WithStreams:
    """Django answers; where it handed the request over, the event stream follows its headers.

    So routing, authentication, validation and errors of a stream are those of any other request,
    and while it is open it holds neither a thread nor a database connection.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers: list[tuple[bytes, bytes]] = []

        async def unless_handed_over(message: Any) -> None:
            if PLAN not in scope:
                await send(message)
            elif message["type"] == "http.response.start":
                headers.extend(h for h in message["headers"] if h[0].lower() != b"content-length")

        await django(scope, receive, unless_handed_over)
        if PLAN in scope:
            await EventStream(scope[PLAN], headers)(scope, receive, send)


django = Handler()
application = ProtocolTypeRouter(
    {
        "http": with_static_files(WithStreams()),
        "websocket": SameOrigin(AuthMiddlewareStack(URLRouter(websocket_urls))),
    }
)
