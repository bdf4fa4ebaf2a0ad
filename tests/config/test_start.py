"""`manage.py start` as a person meets it: clear refusals, a clean end, survival of a kill."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import follow, start_run
from tests.conftest import CHECKOUT, Server, free_port

EMBEDDED = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}


def start(folder: Path, *options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "manage.py", "start", *options],
        cwd=CHECKOUT,
        env=EMBEDDED | {"MUSTER_DATA": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_one_sentence(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    said = done.stderr.strip()
    assert said.startswith("muster: ")
    assert "\n" not in said
    assert "Traceback" not in done.stdout + done.stderr
    for word in words:
        assert word in said


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = start(tmp_path / "data", "--port", str(port))
    assert_one_sentence(done, str(port), "--port")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("mysql://x/y", "postgresql://"),
        ("nonsense", "DATABASE_URL"),
        ("postgresql://nobody@127.0.0.1:1/x", "cannot be used"),
    ],
)
def test_a_bad_database_url_is_refused(tmp_path: Path, url: str, word: str) -> None:
    done = start(tmp_path / "data", "--port", str(free_port()), DATABASE_URL=url)
    assert_one_sentence(done, word)


def test_a_folder_that_we_did_not_make_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    assert_one_sentence(start(tmp_path), "MUSTER_DATA")
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_one_sentence(start(tmp_path / "file" / "data"), "MUSTER_DATA")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a system user to let through")
def test_a_private_parent_folder_is_not_opened(tmp_path: Path) -> None:
    """Trap 4.3."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    assert_one_sentence(start(private / "data", "--port", str(free_port())), "cannot pass through")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_a_malformed_setting_is_named(tmp_path: Path) -> None:
    assert_one_sentence(start(tmp_path / "d", MUSTER_LEASE_SECONDS="soon"), "MUSTER_LEASE_SECONDS")


def test_a_worker_without_a_database_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "worker"],
        cwd=CHECKOUT,
        text=True,
        capture_output=True,
        env=EMBEDDED | {"MUSTER_DATA": str(tmp_path / "data")},
        timeout=60,
        check=False,
    )
    assert_one_sentence(done, "manage.py start")


class Embedded(Server):
    """A server with a PostgreSQL of its own."""

    @property
    def env(self) -> dict[str, str]:
        return {k: v for k, v in super().env.items() if k != "DATABASE_URL"}


@pytest.fixture
def embedded() -> Iterator[Embedded]:
    # Not below pytest's own folder: it is private, and root's PostgreSQL user has to pass through.
    folder = Path(tempfile.mkdtemp(prefix="muster-test-"))
    folder.chmod(0o711)
    server = Embedded("", folder / "data")
    yield server
    if server.process is not None and server.process.poll() is None:
        server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def test_the_embedded_server_from_its_first_start_to_survival_of_a_kill(
    embedded: Embedded,
) -> None:
    embedded.start()
    assert embedded.setup_link
    for name in ("secret.key", "encryption.key"):
        assert stat.S_IMODE((embedded.folder / name).stat().st_mode) == 0o600
    sockets = embedded.folder / "socket"
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700

    second = start(embedded.folder, "--port", str(free_port()))
    assert_one_sentence(second, "already running")

    key = embedded.key
    with embedded.client() as client:
        assert client.get("/v1/runs").json() == []
        run = start_run(client, "slow 40 40ms")["run_id"]
        time.sleep(0.5)
    assert embedded.stop(signal.SIGKILL) == -signal.SIGKILL

    # PostgreSQL was left running; the next start takes it over and the run goes on.
    embedded.said = ""
    embedded.start()
    assert "m8_" not in embedded.said
    with embedded.client(key) as client:
        events = follow(client, run)
        assert events[-1]["type"] == "run.completed"
        assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert embedded.stop(signal.SIGTERM) == 0
    assert not (embedded.folder / "pg" / "postmaster.pid").exists()

    embedded.start()
    assert embedded.stop(signal.SIGINT) == 0


def test_the_pages_of_the_api_docs_find_their_files(server: Server) -> None:
    import re

    with server.client() as client:
        for page in ("/v1/docs", "/api/v2/docs"):
            html = client.get(page).text
            files = re.findall(r'(?:src|href)="(/static/[^"]+)"', html)
            assert files
            assert all(client.get(file).status_code == 200 for file in files)
            assert not re.search(r'(?:src|href)="https?://', html)


LATER = [
    "anthropic",
    "genai_prices",
    "jsonschema",
    "markdown_it",
    "mcp",
    "nh3",
    "openai",
    "PIL",
    "pydantic_ai",
    "pygments",
    "pypdf",
    "regex",
    "trafilatura",
]


def test_what_few_need_is_loaded_when_they_do(tmp_path: Path) -> None:
    script = f"""
import django, sys
django.setup()
from runs.management.commands.start import _load_application
_load_application()
print(sorted(set({LATER}) & set(sys.modules)))
"""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "MUSTER_DATA": str(tmp_path / "data"),
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
