"""The registry of tools."""

from teammates.errors import Invalid
from teammates.tools.ask import ASK_USER
from teammates.tools.base import Tool
from teammates.tools.files import LIST_FILES, READ_FILE, WRITE_FILE
from teammates.tools.pretend import PRETEND_SEND
from teammates.tools.todo import UPDATE_TODOS
from teammates.tools.web import WEB_FETCH

REGISTRY: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        ASK_USER, UPDATE_TODOS, LIST_FILES, READ_FILE, WRITE_FILE, WEB_FETCH, PRETEND_SEND,
    )
}  # fmt: skip


def check_names(names: list[str]) -> None:
    """Raise `Invalid` naming a tool that does not exist."""
    for name in names:
        if name not in REGISTRY:
            raise Invalid(f"tools: there is no tool {name!r}.")


def offered(*, disabled: list[str], may_ask: bool, for_end_user: bool, demo: bool) -> list[Tool]:
    """The tools that a run may use."""
    return [
        tool
        for tool in REGISTRY.values()
        if tool.name not in disabled
        and (may_ask or tool.run is not None)
        and (tool.safe_for_end_users or not for_end_user)
        and (demo or not tool.demo_only)
    ]
