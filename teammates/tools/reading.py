"""Reading what strangers wrote for a model: within a budget, and with words for what failed."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from teammates import file_text, timebox
from teammates.tools.base import ToolError

P = ParamSpec("P")
T = TypeVar("T")
LARGEST_READ = 40_000  # characters that go back to the model
READ_SECONDS = 10  # of work for a file or a page


async def read(about: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function of `file_text` gives. Raises `ToolError`, which says it of `about`."""
    try:
        return await timebox.awaited(READ_SECONDS, function, *args, **kwargs)
    except file_text.Unreadable as problem:
        raise ToolError(f"{about} {problem}") from None
    except timebox.TooCostly:
        raise ToolError(f"{about} is too complicated to be read.") from None
