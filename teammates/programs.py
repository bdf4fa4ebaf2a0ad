"""Programs on this machine that tools come from (MCP over stdio): which, and as whom they run.

They are code: whoever runs the machine names them outside of Muster (`MUSTER_PROGRAMS`), and they
run as somebody who reads nothing of Muster's.
"""

import os
import pwd
import shutil

from django.conf import settings


def refusal(command: list[str]) -> str:
    """Why a command may not run here, as a sentence that says what to do; empty if it may."""
    if not command or command[0] not in settings.PROGRAMS:
        return (
            "Programs run here only if whoever runs this machine names them, with their whole "
            "path, in MUSTER_PROGRAMS."
        )
    if settings.PROGRAMS_USER:
        return (
            ""
            if _user() and _is_root()
            else (
                "MUSTER_PROGRAMS_USER names the user that programs run as: an existing one, and "
                "Muster has to run as root to become it."
            )
        )
    if _is_root():
        return "Muster runs as root: MUSTER_PROGRAMS_USER has to name a user for programs."
    if not shutil.which("bwrap"):
        return "Programs need bubblewrap (bwrap) on this machine, which keeps them from its files."
    return ""


def guarded(command: list[str]) -> tuple[str, ...]:
    """The command that runs `command` as somebody else: another user, or in a sandbox that has
    neither Muster's data nor the person's own files."""
    user = _user()
    if user is not None:
        return (
            "setpriv",
            f"--reuid={user.pw_uid}",
            f"--regid={user.pw_gid}",
            "--clear-groups",
            "--no-new-privs",
            "--",
            *command,
        )
    hidden = [str(settings.DATA_FOLDER), os.path.expanduser("~")]
    covers = [word for folder in hidden if os.path.isdir(folder) for word in ("--tmpfs", folder)]
    return (
        "bwrap",
        "--ro-bind",
        "/",
        "/",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--tmpfs",
        "/tmp",
        *covers,
        "--unshare-pid",
        "--unshare-ipc",
        "--new-session",
        "--die-with-parent",
        "--",
        *command,
    )


def _user() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(settings.PROGRAMS_USER) if settings.PROGRAMS_USER else None
    except KeyError:
        return None


def _is_root() -> bool:
    return os.geteuid() == 0
