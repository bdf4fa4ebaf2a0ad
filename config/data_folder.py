"""The data folder: where the embedded PostgreSQL, the files and the keys live.

`MUSTER_DATA` names it. Unset, it is `.data/` beside `manage.py`, or, for root, a folder of this
checkout's own under /var/lib/muster, because PostgreSQL refuses to run as root and its user must
be able to reach the folder.
"""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.errors import StartError

CHECKOUT = Path(__file__).resolve().parent.parent
SHARED = Path("/var/lib/muster")
MARKER = "MUSTER"


def is_root() -> bool:
    return os.geteuid() == 0


def path() -> Path:
    """The data folder of this checkout, whether or not it exists yet."""
    if chosen := os.environ.get("MUSTER_DATA"):
        return Path(chosen).expanduser().resolve()
    if is_root():
        return SHARED / hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:16]
    return CHECKOUT / ".data"


def prepare() -> Path:
    """Make the folder if it is missing and return it; refuse one that we did not make."""
    folder = path()
    try:
        if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).exists():
            raise StartError(
                f"{folder} holds something else; set MUSTER_DATA to an empty or new folder."
            )
        # Root's PostgreSQL user has to pass through, not to look around.
        _make(folder, 0o711 if is_root() else 0o700)
        marker = folder / MARKER
        if not marker.exists():
            marker.write_text("Muster's data. Stop the server before you move or copy it.\n")
    except OSError as error:
        raise StartError(
            f"The data folder {folder} cannot be used ({error.strerror}); "
            "make it writable or set MUSTER_DATA to another folder."
        ) from error
    return folder


def _make(folder: Path, mode: int) -> None:
    if folder.exists():
        return
    if not folder.parent.exists():
        _make(folder.parent, 0o755 if is_root() else 0o700)
    folder.mkdir(mode=mode)
    folder.chmod(mode)


def private(name: str) -> Path:
    """A folder in the data folder for this server alone, made on first use; one that others can
    look into is closed."""
    folder = path() / name
    try:
        if not folder.exists():
            prepare()
            folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise StartError(f"{folder} cannot be made ({error.strerror}).") from error
    return folder


def key(name: str) -> str:
    """The secret stored as `name` (mode 600), made on first use."""
    file = path() / name
    if not file.exists():
        prepare()
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return key(name)
        except OSError as error:
            raise StartError(f"{file} cannot be written ({error.strerror}).") from error
        with os.fdopen(handle, "w") as opened:
            opened.write(secrets.token_urlsafe(48))
    try:
        return file.read_text().strip()
    except OSError as error:
        raise StartError(f"{file} cannot be read ({error.strerror}).") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for one server; a second one is refused."""
    try:
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartError(f"{folder} cannot be locked ({error.strerror}).") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"Muster is already running on {folder}; stop it first, "
                "or start this one with another MUSTER_DATA."
            ) from None
        yield
    finally:
        os.close(handle)
