"""The servers that can serve the application, each with its edges filed alike: a body is refused
before it is read, a slow one given up, a slow reader noticed, and every stream closed at the end.

Each module has a `Server`, made of a `Service`: `run` serves until SIGINT or SIGTERM, or raises
what `fail` was told.
"""

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module, util
from typing import Any

from config.errors import StartError

DAPHNE, UVICORN = NAMES = ("daphne", "uvicorn")
_EXTRAS = {UVICORN: ("uvicorn", "httptools", "websockets")}


@dataclass(frozen=True)
class Service:
    """What is served on `listener`, a socket that listens already and that several processes may
    share. `on_ready` is awaited on the event loop, `on_stop` before the streams are ended."""

    application: Any
    listener: socket.socket
    on_ready: Callable[[], Awaitable[None]]
    on_stop: Callable[[], Awaitable[None]]


def check_installed(name: str) -> None:
    """Raises `StartError`."""
    if missing := [package for package in _EXTRAS.get(name, ()) if util.find_spec(package) is None]:
        raise StartError(
            f"--server {name} needs {' and '.join(missing)}: "
            f"start with uv run --extra {name} manage.py start --server {name}."
        )


def server_class(name: str) -> Any:
    """Daphne's installs an event loop when it is imported: nothing may have made one before."""
    return import_module(f"config.servers.{name}").Server
