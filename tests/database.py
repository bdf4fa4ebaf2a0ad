"""A pytest plugin: the tests' own embedded PostgreSQL, with a database per worker process.

Loaded with `-p` so that the data folder is set before Django reads its settings.
"""

import contextlib
import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from config import data_folder
from config.postgres import Cluster

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ["MUSTER_LEASE_SECONDS"] = "1"
os.environ["MUSTER_RETRY_SECONDS"] = "0.05"
os.environ["MUSTER_PATIENT_RETRY_SECONDS"] = "0.01"
os.environ["MUSTER_POLL_SECONDS"] = "0.5"
# The tests' own program may run, and, for root, as root: its interpreter is nobody else's.
os.environ["MUSTER_PROGRAMS"] = sys.executable
if data_folder.is_root():
    os.environ["MUSTER_PROGRAMS_USER"] = "root"
os.environ["MUSTER_REGISTRATION_OPEN"] = "true"  # the tests of doors say otherwise
os.environ["MUSTER_LIMITS"] = (
    "false"  # all tests come from one address; those of limits say otherwise
)
os.environ["MUSTER_MAIL_BELIEVED"] = "true"  # the tests of senders say otherwise
os.environ["MUSTER_ALLOW_PRIVATE_ADDRESSES"] = "true"  # the loopback model server
if "MUSTER_TEST_DATA" not in os.environ:
    inside = data_folder.path()
    os.environ["MUSTER_TEST_DATA"] = str(
        inside.with_name(inside.name + "-test") if data_folder.is_root() else inside / "test"
    )
os.environ["MUSTER_DATA"] = os.environ["MUSTER_TEST_DATA"]
os.environ.pop("DATABASE_URL", None)

CHECKOUT = Path(__file__).resolve().parent.parent
cluster = Cluster(Path(os.environ["MUSTER_DATA"]))
_stack = contextlib.ExitStack()


@functools.cache
def template() -> str:
    """The migrated, empty database that every other one is a copy of."""
    digest = hashlib.sha256()
    # Apps and their versions bring migrations, too.
    brought = [CHECKOUT / "config" / "settings.py", CHECKOUT / "pyproject.toml"]
    for source in [*sorted(CHECKOUT.glob("*/migrations/*.py")), *brought]:
        digest.update(source.read_bytes())
    return f"muster_template_{digest.hexdigest()[:12]}"


def url_of(database: str) -> str:
    return f"postgresql://postgres@/{database}?host={cluster.socket_folder}"


def create_database(name: str) -> None:
    """A fresh one, with the schema; drops what had the name."""
    with cluster.connect() as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template()}")


def _make_template() -> None:
    name = template()
    with cluster.connect() as connection:
        known = connection.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE 'muster\\_template\\_%'"
        ).fetchall()
        if (name,) in known:
            return
        for (old,) in known:
            connection.execute(f"DROP DATABASE {old}")
        connection.execute("DROP DATABASE IF EXISTS muster_being_made")
        connection.execute("CREATE DATABASE muster_being_made")
    subprocess.run(
        [sys.executable, "-W", "ignore", "manage.py", "migrate", "-v", "0"],
        cwd=CHECKOUT,
        env=os.environ | {"DATABASE_URL": url_of("muster_being_made")},
        check=True,
    )
    with cluster.connect() as connection:
        connection.execute(f"ALTER DATABASE muster_being_made RENAME TO {name}")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ or config.option.collectonly:
        return
    folder = data_folder.prepare()
    _stack.enter_context(data_folder.locked(folder))
    _stack.enter_context(cluster.running())
    cluster.ensure_database("muster")
    _make_template()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    _stack.close()
