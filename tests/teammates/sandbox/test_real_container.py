"""The sandbox in a container of a real docker or podman, where MUSTER_TEST_SANDBOX names one that
has the image (`manage.py build_sandbox`)."""

import asyncio
import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

from teammates.sandbox.base import TOO_SLOW, Ran
from teammates.sandbox.container import Container

PROGRAM = os.environ.get("MUSTER_TEST_SANDBOX", "")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="MUSTER_TEST_SANDBOX names no program")


@pytest.fixture
def place() -> Iterator[Container]:
    container = Container(PROGRAM, "muster-sandbox", uuid4().hex)
    assert container.problem() == ""
    yield container

    async def none_is_at_work(kept: list[str]) -> set[str]:
        return set()

    asyncio.run(container.tidy(none_is_at_work))


def run(place: Container, code: str, files: dict[str, bytes] | None = None) -> tuple[str, Ran]:
    printed: list[str] = []
    ran = asyncio.run(place.run("r1", code, files or {}, printed.append))
    return "".join(printed), ran


def test_a_table_is_computed_and_its_chart_is_kept_for_the_next_piece(place: Container) -> None:
    code = """
import pandas, matplotlib.pyplot as plt
table = pandas.read_csv('a.csv')
print(table.y.sum())
table.plot(x='x', y='y')
plt.savefig('chart.png')
"""
    printed, ran = run(place, code, {"a.csv": b"x,y\n1,2\n2,3\n"})
    assert (printed, ran.error) == ("5\n", "")
    assert ran.files["chart.png"].startswith(b"\x89PNG")
    printed, ran = run(place, "import os, subprocess\nprint(sorted(os.listdir()))")
    assert printed == "['a.csv', 'chart.png']\n"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import socket\nsocket.create_connection(('1.1.1.1', 53), 2)", "unreachable"),
        ("open('/etc/passwd', 'a')", "Permission denied"),
        ("import os\nos.setuid(0)", "Operation not permitted"),
        ("import os\nos.mkdir('/home/me')", "Error: [Errno"),
        ("open('big', 'wb').write(bytes(200_000_000))", "No space left"),
        ("import os, time\nwhile True:\n    os.fork() or time.sleep(60)", "Resource temporarily"),
    ],
)
def test_what_leads_out_of_it_is_closed(place: Container, code: str, told: str) -> None:
    printed, ran = run(place, code)
    assert ran.error.startswith("It ended with status 1")
    assert told in printed


def test_endless_code_and_memory_are_ended_and_the_next_piece_runs(
    place: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "memory" in run(place, "x = bytearray(3 * 1024 ** 3)")[1].error
    monkeypatch.setattr("teammates.sandbox.container.SECONDS", 3)
    assert run(place, "while True: pass")[1].error == TOO_SLOW
    assert run(place, "print('again')")[0] == "again\n"
