"""The unmodified `m8tes` command, as a person types it: sign in, teammates, tasks, runs, chat."""

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

pytest.importorskip("m8tes", reason="the m8tes command needs Python 3.11.9 or newer")

from tests.conftest import CHECKOUT, Server

PASSWORD = "correct horse battery"


class Terminal:
    """A shell of somebody whose home folder is empty at first."""

    def __init__(self, server: Server, home: Path) -> None:
        self._env = {
            **os.environ,
            "HOME": str(home),
            "M8TES_BASE_URL": server.url,
            "NO_COLOR": "1",
            "PYTHON_KEYRING_BACKEND": "tests.keychain.FileKeychain",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONIOENCODING": "utf-8",
        }

    def type(self, *words: str, says: str = "", fails: bool = False) -> str:
        """Run `m8tes …`, with `says` typed into it; returns what it printed."""
        program = "import sys; from m8tes.cli.main import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, *words],
            input=says,
            text=True,
            env=self._env,
            capture_output=True,
            timeout=60,
            start_new_session=True,  # no terminal of ours: passwords are read from `says`
        )
        said = done.stdout + done.stderr
        assert (done.returncode != 0) is fails, said
        return said


@pytest.fixture
def terminal(server: Server, tmp_path: Path) -> Terminal:
    return Terminal(server, tmp_path)


@pytest.fixture
def signed_in(terminal: Terminal) -> Terminal:
    email = f"{uuid.uuid4().hex}@example.com"
    said = terminal.type("auth", "register", says=f"{email}\n{PASSWORD}\n{PASSWORD}\nAnn\n")
    assert "Registration successful" in said
    assert email in said
    return terminal


def number_in(said: str) -> str:
    found = re.search(r"ID:?\s*(\d+)", said)
    assert found, said
    return found[1]


def test_register_status_sign_out_and_sign_in(terminal: Terminal) -> None:
    email = f"{uuid.uuid4().hex}@example.com"
    terminal.type("auth", "register", says=f"{email}\n{PASSWORD}\n{PASSWORD}\nAnn\n")
    assert email in terminal.type("auth", "status")
    assert "inactive" in terminal.type("auth", "usage").lower()
    terminal.type("auth", "resend-verify")
    terminal.type("auth", "logout", says="y\n")
    terminal.type("agent", "list", fails=True)
    wrong = terminal.type("auth", "login", says=f"{email}\nwrong password\n", fails=True)
    assert "Login failed" in wrong
    assert "Login successful" in terminal.type("auth", "login", says=f"{email}\n{PASSWORD}\n")
    terminal.type("agent", "list")


def test_teammates(signed_in: Terminal) -> None:
    made = signed_in.type(
        "agent", "create", "--non-interactive", "--name", "Ada", "--instructions", "Be brief."
    )
    agent = number_in(made)
    assert "Ada" in signed_in.type("agent", "list")
    assert "Be brief." in signed_in.type("agent", "get", agent)
    signed_in.type("agent", "update", agent, "--non-interactive", "--name", "Ada Two")
    signed_in.type("agent", "disable", agent, "--force")
    signed_in.type("agent", "enable", agent)
    signed_in.type("agent", "archive", agent, "--force")
    assert "Ada Two" not in signed_in.type("agent", "list")


def test_a_run_its_messages_and_its_usage(signed_in: Terminal) -> None:
    agent = number_in(
        signed_in.type(
            "agent", "create", "--non-interactive", "--name", "Ada", "--instructions", "x"
        )
    )
    said = signed_in.type("agent", "task", agent, "slow 3 1ms")
    assert "word1 word2 word3" in said
    runs = signed_in.type("run", "list")
    found = re.search(r"Run (\d+)", runs)
    assert found, runs
    newest = found[1]
    assert "completed" in signed_in.type("run", "get", newest).lower()
    assert "word3" in signed_in.type("run", "conversation", newest)
    signed_in.type("run", "usage", newest)
    signed_in.type("run", "tools", newest)
    assert newest in signed_in.type("run", "list-agent", agent)
    assert "run" in signed_in.type("run", "audit-logs")


def test_chat_keeps_the_context(signed_in: Terminal) -> None:
    agent = number_in(
        signed_in.type(
            "agent", "create", "--non-interactive", "--name", "Ada", "--instructions", "x"
        )
    )
    said = signed_in.type("agent", "chat", agent, says="file notes.txt\nnow read it\n/exit\n")
    assert "notes.txt" in said


def test_tasks(signed_in: Terminal) -> None:
    agent = number_in(
        signed_in.type(
            "agent", "create", "--non-interactive", "--name", "Ada", "--instructions", "x"
        )
    )
    made = signed_in.type(
        "task",
        "create",
        "--non-interactive",
        "--agent-id",
        agent,
        "--name",
        "Count",
        "--instructions",
        "slow 3 1ms",
    )
    task = number_in(made)
    assert "Count" in signed_in.type("task", "list")
    assert "slow 3 1ms" in signed_in.type("task", "get", task)
    assert "word3" in signed_in.type("task", "execute", task)
    signed_in.type("task", "update", task, "--name", "Count again")
    assert "Count again" in signed_in.type("task", "get", task)
    signed_in.type("task", "archive", task, says="y\n")
    assert "Count again" not in signed_in.type("task", "list")


def test_apps(signed_in: Terminal) -> None:
    assert "gmail" in signed_in.type("apps", "list").lower()
    signed_in.type("apps", "connect-api-key", "notion", "ntn_test")
    signed_in.type("apps", "disconnect", "notion")
