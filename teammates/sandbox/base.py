"""What a sandbox is: a place where Python of a model's runs and can do no harm."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

SECONDS = 30.0  # that one piece of code may run
LARGEST_OUTPUT = 200_000  # characters printed
LARGEST_FILES = 50 * 1024 * 1024  # bytes, of all files put in or written
MOST_FILES = 50  # that are taken out
TOO_LONG = f"It printed more than {LARGEST_OUTPUT} characters and was stopped."
TOO_SLOW = f"It took more than {SECONDS:g} seconds and was stopped."
TOO_MANY = f"It wrote more than {MOST_FILES} files; none were kept."


@dataclass(frozen=True)
class Ran:
    """What came of a piece of code. `error`: why it did not end well, a traceback mostly; `files`:
    those that are new or other than before, by name."""

    error: str = ""
    files: dict[str, bytes] = field(default_factory=dict)


class SandboxBroke(Exception):
    """The sandbox itself did not work; the message is a sentence for people and models."""


class Sandbox(Protocol):
    # For a model: what the code finds there.
    about: str

    def problem(self) -> str:
        """Why no code can run here; empty if it can. May ask another program: not for the loop."""
        ...

    async def run(
        self, run: str, code: str, files: dict[str, bytes], show: Callable[[str], None]
    ) -> Ran:
        """Run `code` for the run with that id, beside `files`. `show` is told what it prints, as
        it comes. Cancelled, the code ends. Raises `SandboxBroke`."""
        ...

    async def tidy(self, working: Callable[[list[str]], Awaitable[set[str]]]) -> None:
        """Remove what is left of runs that are not at work, of which `working` tells, and of
        processes that were killed."""
        ...


class Output:
    """Hands on what code prints, until it is too much."""

    def __init__(self, show: Callable[[str], None], stop: Callable[[], object]) -> None:
        self._show, self._stop = show, stop
        self._room = LARGEST_OUTPUT

    @property
    def is_too_long(self) -> bool:
        return self._room < 0

    def add(self, text: str) -> None:
        if self.is_too_long:
            return
        self._show(text[: self._room])
        self._room -= len(text)
        if self.is_too_long:
            self._stop()
