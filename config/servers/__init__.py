"""The servers that can serve the application, each with its edges filed alike: a body is refused
before it is read, a slow one given up, a slow reader noticed, and every stream closed at the end.

Each module has a `Server`: made of the application, the socket that it is to take connections from
and that several processes may share, `on_ready`, which is awaited on the event loop, and `on_stop`,
which is awaited before the streams are ended. `run` serves until SIGINT or SIGTERM, or raises what
`fail` was told.
"""

from importlib import import_module, util
from typing import Any

from config.errors import StartError

DAPHNE, UVICORN = NAMES = ("daphne", "uvicorn")
_EXTRAS = {UVICORN: ("uvicorn", "httptools", "websockets")}


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
