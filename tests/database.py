"""A pytest plugin: the tests' own embedded PostgreSQL, with a database per worker process.

Loaded with `-p` so that the data folder is set before Django reads its settings.
"""

import contextlib
import os
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

cluster = Cluster(Path(os.environ["MUSTER_DATA"]))
_stack = contextlib.ExitStack()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ or config.option.collectonly:
        return
    folder = data_folder.prepare()
    _stack.enter_context(data_folder.locked(folder))
    _stack.enter_context(cluster.running())
    cluster.ensure_database("muster")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    _stack.close()
