"""The one door from asynchronous code to the database, and the settings of the connection."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cache, partial
from typing import ParamSpec, TypeVar

import psycopg

from config.errors import StartError
from config.postgres import Cluster
from teammates.types import JSON

P = ParamSpec("P")
T = TypeVar("T")


def connection_settings(
    url: str, cluster: Cluster, *, pool_size: int, prepared: bool = True
) -> JSON:
    """Django's DATABASES entry for `url`, or for the embedded `cluster` if it is empty.

    `prepared` statements need a pooler that knows them, where there is one.
    """
    settings: JSON = {
        "ENGINE": "django.db.backends.postgresql",
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            "pool": {"min_size": 1, "max_size": pool_size, "timeout": 15},
            # A statement is planned once per connection, not each time.
            "server_side_binding": prepared,
            "prepare_threshold": 3 if prepared else None,
        },
    }
    if not url:
        return settings | {
            "NAME": "muster",
            "USER": "postgres",
            "HOST": str(cluster.socket_folder),
        }
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        parts = {}
    if not url.startswith(("postgres://", "postgresql://")) or not parts.get("dbname"):
        raise StartError(
            "DATABASE_URL must look like postgresql://user:password@host:5432/database."
        )
    settings |= {
        "NAME": parts.pop("dbname"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": parts.pop("port", ""),
    }
    settings["OPTIONS"] |= parts
    return settings


@cache
def _executor() -> ThreadPoolExecutor:
    from django.conf import settings

    return ThreadPoolExecutor(settings.DATABASE_THREADS, thread_name_prefix="database")


def _give_back_after(function: Callable[[], T]) -> T:
    from django.db import connections

    try:
        return function()
    finally:
        # With a pool, closing hands the connection back: no thread keeps one while it idles.
        connections.close_all()


async def in_db(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run synchronous `function`, which may use the ORM, on a bounded pool of threads.

    Django's own bridge is one thread for the whole process outside of a request.
    """
    context = contextvars.copy_context()
    call = partial(context.run, partial(function, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(
        _executor(), partial(_give_back_after, call)
    )


# Two transactions waited for each other, or one saw what another changed.
UNDONE = ("40001", "40P01")


def left_nothing(error: BaseException) -> bool:
    """Whether the database undid the transaction that failed so: it can be tried again."""
    return getattr(error.__cause__, "sqlstate", None) in UNDONE


def database_now() -> datetime:
    """The clock that every process shares."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now


def close_pool() -> None:
    """Close this process's pooled connections (at the end of the process)."""
    from django.db import connection

    connection.close_pool()  # type: ignore[attr-defined]


def check_server() -> str:
    """Why the database does not answer, in a line; empty if it does."""
    try:
        with psycopg.connect(direct_conninfo(), connect_timeout=5) as found:
            version = found.info.server_version
    except (psycopg.Error, OSError) as error:
        return str(error).strip().splitlines()[-1]
    return "" if version >= 150000 else f"PostgreSQL 15 or newer is needed, not {version // 10000}"


def direct_conninfo() -> str:
    """A conninfo that reaches the server itself, for LISTEN."""
    from django.conf import settings
    from django.db import connection

    if settings.DATABASE_DIRECT_URL:
        return str(settings.DATABASE_DIRECT_URL)
    parameters = connection.get_connection_params()
    parameters.pop("prepare_threshold", None)  # the driver's, not the server's
    wanted = {k: v for k, v in parameters.items() if isinstance(v, str | int) and v != ""}
    return psycopg.conninfo.make_conninfo("", **wanted)
