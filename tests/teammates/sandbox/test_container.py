"""The sandbox in a container: how the program is asked, and what is made of its answers."""

import asyncio
import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from teammates.sandbox import base, container
from teammates.sandbox.base import Ran, SandboxBroke
from teammates.sandbox.container import Container
from tests import docker_program

NAME = "muster-owner-r1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    docker_program.install(tmp_path)
    return tmp_path


@pytest.fixture
def place(folder: Path) -> Container:
    return Container(str(folder / "docker"), "muster-sandbox", "owner")


def run(place: Container, code: str, files: dict[str, bytes] | None = None) -> tuple[str, Ran]:
    printed: list[str] = []
    ran = asyncio.run(place.run("r1", code, files or {}, printed.append))
    return "".join(printed), ran


def asked(folder: Path, word: str) -> list[list[str]]:
    lines = (folder / "asked.jsonl").read_text().splitlines()
    return [words for words in map(json.loads, lines) if words[0] == word]


def test_code_reads_the_files_and_its_own_are_taken_out(place: Container) -> None:
    code = "open('b.txt','w').write(open('a.txt').read() * 2)\nprint('wörld')"
    assert run(place, code, {"a.txt": b"a"}) == ("wörld\n", Ran(files={"b.txt": b"aa"}))


def test_a_run_keeps_its_container_between_pieces_of_code(place: Container, folder: Path) -> None:
    run(place, "open('a.txt','w').write('kept')")
    assert run(place, "print(open('a.txt').read())")[0] == "kept\n"
    assert len(asked(folder, "run")) == 1


def test_the_container_is_confined(place: Container, folder: Path) -> None:
    run(place, "print(1)")
    options = " ".join(asked(folder, "run")[0])
    for limit in (
        "--network none",
        "--read-only",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--user 65534:65534",
        "--memory 1g",
        "--pids-limit 256",
        "--pull never",
    ):
        assert limit in options
    assert "--volume" not in options
    assert "--privileged" not in options


def test_what_fails_says_how(place: Container) -> None:
    printed, ran = run(place, "print('before', flush=True)\n1 / 0")
    assert printed.startswith("before\n")
    assert "ZeroDivisionError" in printed
    assert ran.error == "It ended with status 1."


def test_endless_code_goes_with_its_container(
    place: Container, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "SECONDS", 1)
    assert run(place, "import time\ntime.sleep(15)")[1] == Ran(base.TOO_SLOW)
    assert not (folder / NAME).exists()


def test_endless_output_goes_with_its_container(place: Container, folder: Path) -> None:
    printed, ran = run(place, "for i in range(10_000): print('x' * 1000)")
    assert ran == Ran(base.TOO_LONG)
    assert len(printed) == base.LARGEST_OUTPUT
    assert not (folder / NAME).exists()


def test_code_that_is_cancelled_goes_with_its_container(place: Container, folder: Path) -> None:
    async def go() -> None:
        printed = asyncio.Event()
        code = "import time\nprint(1, flush=True)\ntime.sleep(15)"
        running = asyncio.ensure_future(place.run("r1", code, {}, lambda _: printed.set()))
        await printed.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(go())
    assert not (folder / NAME).exists()


def test_a_container_without_room_is_replaced(place: Container, folder: Path) -> None:
    run(place, "print(1)")
    (folder / NAME / "full").write_text("")
    assert run(place, "print(2)")[0] == "2\n"
    assert len(asked(folder, "run")) == 2


def test_code_that_leaves_no_room_loses_its_files(place: Container, folder: Path) -> None:
    _, ran = run(place, "open('full', 'w').close()")
    assert "Its files are lost" in ran.error
    assert not (folder / NAME).exists()


def test_only_plain_files_are_taken_out(place: Container, folder: Path) -> None:
    (folder / "secret").write_text("secret")
    code = (
        "import os\nos.mkdir('d')\nopen('d/x', 'w').write('x')\n"
        "os.symlink('../secret', 'link')\nos.mkfifo('pipe')\nopen('a', 'w').write('a')"
    )
    assert run(place, code)[1] == Ran(files={"a": b"a"})


def test_a_file_that_becomes_a_link_is_not_written_through(place: Container, folder: Path) -> None:
    (folder / "secret").write_text("secret")
    run(place, "import os\nos.remove('a')\nos.symlink('../secret', 'a')", {"a": b"a"})
    run(place, "print(1)", {"a": b"changed"})
    assert (folder / "secret").read_text() == "secret"


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "d/../../escaped"])
def test_names_that_lead_elsewhere_are_left_out(name: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    assert container._taken(packed.getvalue(), {}, "") == (Ran(), {})


@pytest.mark.parametrize("packed", [b"", b"no archive", b"\0" * 5000, b"x" * 2000])
def test_what_is_no_archive_is_refused_or_empty(packed: bytes) -> None:
    try:
        ran = container._taken(packed, {}, "")
    except SandboxBroke:
        return
    assert ran == (Ran(), {})


def test_containers_of_runs_that_are_not_at_work_are_removed(
    place: Container, folder: Path
) -> None:
    async def working(kept: list[str]) -> set[str]:
        assert set(kept) == {"r1", "r2"}
        return {"r2"}

    async def go() -> None:
        for name in ("r1", "r2"):
            await place.run(name, "print(1)", {}, lambda _: None)
        await place.tidy(working)

    asyncio.run(go())
    assert [one.name for one in folder.iterdir() if one.is_dir()] == ["muster-owner-r2"]


def test_a_file_that_is_not_kept_is_taken_out_once(place: Container) -> None:
    assert " odd " in run(place, "open(' odd ', 'w').close()")[1].files
    assert run(place, "open('good.csv', 'w').write('x')")[1] == Ran(files={"good.csv": b"x"})


def test_too_many_files_are_not_kept_and_forgotten(place: Container) -> None:
    assert run(place, "for i in range(60): open(str(i), 'w').close()")[1] == Ran(base.TOO_MANY)
    assert run(place, "open('good.csv', 'w').write('x')")[1] == Ran(files={"good.csv": b"x"})


def test_a_sparse_file_fills_no_memory(place: Container) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("big")
        member.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "big",
            "GNU.sparse.realsize": str(10**12),
        }
        content = b"0\n" + b"\0" * 510
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    assert container._taken(packed.getvalue(), {}, "") == (Ran(), {})


def test_a_folder_that_holds_too_much_is_refused() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for number in range(container.MOST_KNOWN + 1):
            archive.addfile(tarfile.TarInfo(str(number)), io.BytesIO())
    with pytest.raises(SandboxBroke, match="more than can be kept"):
        container._taken(packed.getvalue(), {}, "")


def test_a_file_named_like_a_module_is_not_imported(place: Container) -> None:
    printed, _ = run(place, "import json\nprint(json.dumps(1))", {"json.py": b"print('mine')"})
    assert printed == "1\n"


def test_a_program_that_falls_silent_counts_as_it_was(
    place: Container, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "ASK_SECONDS", 0.5)
    monkeypatch.setattr(container, "PROBLEM_SECONDS", 0)
    assert place.problem() == ""
    (folder / "slow").write_text("2")
    assert place.problem() == ""
    assert "does not answer" in Container(place._program, "i", "owner").problem()


def test_what_is_missing_is_said(place: Container, folder: Path) -> None:
    assert place.problem() == ""
    (folder / "no-image").write_text("")
    assert place.problem() == ""  # for a minute
    fresh = Container(place._program, "muster-sandbox", "owner")
    assert "manage.py build_sandbox" in fresh.problem()
    (folder / "broken").write_text("Cannot connect to the Docker daemon.")
    assert "Cannot connect" in Container(place._program, "i", "owner").problem()
    shutil.rmtree(folder)
    assert "is not installed" in Container(place._program, "i", "owner").problem()


def test_a_program_that_fails_is_told(place: Container, folder: Path) -> None:
    (folder / "broken").write_text("Cannot connect to the Docker daemon.")
    with pytest.raises(SandboxBroke, match="Cannot connect"):
        run(place, "print(1)")
