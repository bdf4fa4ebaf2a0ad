"""Fixtures: the cast, and the real server in a process of its own."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from django.db import connection

from teammates.access import Access
from tests import factories, fake_models
from tests.database import CHECKOUT, cluster, create_database, template, url_of


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """The tests' database is a copy of the migrated one, too."""
    connection.settings_dict["TEST"]["TEMPLATE"] = template()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """At the end, nobody's forgotten connection keeps the database from being dropped."""
    yield
    with cluster.connect() as superuser:
        superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [connection.settings_dict["NAME"]],
        )
    connection.close()


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    """A good hash takes a third of a second, and these passwords are nobody's."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def models() -> Iterator[fake_models.FakeModels]:
    with fake_models.serve() as server:
        yield server


@pytest.fixture
def alice(db: None) -> Access:
    return factories.make_alice()


@pytest.fixture
def home(alice: Access) -> Access:
    """Alice, as an admin of the installation's own organization."""
    alice.organization.is_home = True
    alice.organization.save()
    return alice


@pytest.fixture
def bob(alice: Access) -> Access:
    return factories.make_bob(alice)


@pytest.fixture
def eve(db: None) -> Access:
    return factories.make_eve()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """`manage.py start` on a database and a data folder of its own."""

    database: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[str] | None" = None
    said: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database_url(self) -> str:
        return url_of(self.database)

    @property
    def env(self) -> dict[str, str]:
        return (
            os.environ
            | {
                "DATABASE_URL": self.database_url,
                "MUSTER_DATA": str(self.folder),
                "MUSTER_POLL_SECONDS": "2",
                "PYTHONUNBUFFERED": "1",
                "MUSTER_ALLOW_PRIVATE_ADDRESSES": "false",
                "MUSTER_SMTP": "off",
            }
            | self.environment
        )

    def start(self, *options: str) -> "Server":
        # The tests' servers are many, and each has little to do: one process does it all, but
        # where a test says otherwise.
        given = ["--port", str(self.port), "--processes", "1", *options]
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "start", *given],
            cwd=CHECKOUT,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if "Stop it with Ctrl-C" in line:
                break
        else:
            raise AssertionError(f"The server did not start:\n{self.said}")
        self._keep_reading()
        return self

    def _keep_reading(self) -> None:
        import threading

        def read(stream: Any) -> None:
            with contextlib.suppress(ValueError):
                for line in stream:
                    self.said += line

        assert self.process is not None
        threading.Thread(target=read, args=[self.process.stdout], daemon=True).start()

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End the server and return its exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(timeout=60)
        if self.process.stdout:
            self.process.stdout.close()
        return code

    @property
    def key(self) -> str:
        found = re.search(r"m8_[0-9a-f]{64}", self.said)
        assert found, self.said
        return found.group(0)

    @property
    def setup_link(self) -> str:
        found = re.search(r"http\S+/setup/\S+/", self.said)
        assert found, self.said
        return found.group(0)

    def client(self, key: str | None = None, **options: Any) -> httpx2.Client:
        return httpx2.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {key or self.key}"},
            timeout=60,
            trust_env=False,
            **options,
        )


MakeServer = Callable[..., Server]


@pytest.fixture(scope="session")
def make_server(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[MakeServer]:
    """Start servers, each on a fresh database; they end with the session."""
    made: list[Server] = []

    def make(*options: str, **environment: str) -> Server:
        name = f"muster_served_{worker_id}_{len(made)}"
        create_database(name)
        folder = tmp_path_factory.mktemp("data") / "muster"
        server = Server(name, folder, environment)
        made.append(server)
        return server.start(*options)

    yield make
    for server in made:  # all of them first: nothing that fails below leaves one running
        if server.process and server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        if server.process and server.process.stdout:
            server.process.stdout.close()
    for server in made:
        with cluster.connect() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {server.database} WITH (FORCE)")


@pytest.fixture(scope="session")
def server(make_server: MakeServer) -> Server:
    """The server that tests share; each makes its own threads and runs."""
    return make_server()


def wait_for(condition: Callable[[], Any], *, seconds: float = 60) -> Any:
    """Look every 20 ms until `condition` gives something true; fail after `seconds`."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def listen(server: Server) -> psycopg.Connection[Any]:
    """A connection that hears the server's wake-ups."""
    connection = psycopg.connect(server.database_url, autocommit=True)
    connection.execute("LISTEN muster_events")
    return connection
