"""The registry of built-in tools. Those of servers outside are made by `tools/servers.py`."""

from collections.abc import Iterable
from dataclasses import dataclass

from teammates.tools.ask import ASK_USER
from teammates.tools.base import Tool
from teammates.tools.documents import READ_DOCUMENT, SEARCH_DOCUMENTS, WRITE_DOCUMENT
from teammates.tools.files import LIST_FILES, READ_FILE, WRITE_FILE
from teammates.tools.lessons import LEARN_LESSON
from teammates.tools.mailbox import READ_MAILBOX
from teammates.tools.memory import FORGET, RECALL, REMEMBER
from teammates.tools.pretend import PRETEND_SEND
from teammates.tools.python import RUN_PYTHON
from teammates.tools.search import WEB_SEARCH
from teammates.tools.setup import SETUP_TOOLS
from teammates.tools.skills import LOAD_SKILL
from teammates.tools.tell import NOTIFY, REPORT_ISSUE
from teammates.tools.todo import UPDATE_TODOS
from teammates.tools.web import WEB_FETCH

REGISTRY: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        ASK_USER,
        UPDATE_TODOS,
        LIST_FILES,
        READ_FILE,
        WRITE_FILE,
        RUN_PYTHON,
        REMEMBER,
        RECALL,
        FORGET,
        WRITE_DOCUMENT,
        SEARCH_DOCUMENTS,
        READ_DOCUMENT,
        LEARN_LESSON,
        WEB_FETCH,
        WEB_SEARCH,
        NOTIFY,
        LOAD_SKILL,
        *SETUP_TOOLS,
        READ_MAILBOX,
        REPORT_ISSUE,
        PRETEND_SEND,
    )
}


@dataclass(frozen=True)
class Group:
    """Built-in tools that are switched together. `configurable`: by a switch of its own on runs."""

    name: str
    title: str
    description: str
    configurable: bool = False

    @property
    def tools(self) -> list[Tool]:
        return [tool for tool in REGISTRY.values() if tool.group == self.name]

    @property
    def is_safe_for_end_users(self) -> bool:
        return all(tool.safe_for_end_users for tool in self.tools)


GROUPS: dict[str, Group] = {
    group.name: group
    for group in (
        Group("ask", "Ask the user", "Asks a person and waits for the answer."),
        Group("plan", "To-do list", "Shows what is done and what is left."),
        Group("files", "Files", "Lists, reads and writes the files of the thread."),
        Group(
            "code", "Code", "Runs Python in a sandbox: calculates, works on files, draws charts."
        ),
        Group(
            "memory",
            "Memory",
            "Remembers, looks up and forgets across runs; keeps and searches documents.",
            True,
        ),
        Group("lessons", "Lessons", "Runs of a task leave lessons for its later runs."),
        Group("history", "History", "Is told what earlier runs said.", True),
        Group("web", "Web", "Searches the web, and fetches pages from public addresses."),
        Group("mailbox", "Mailbox", "Reads the mails of a mailbox of its own, if it has one."),
        Group("skills", "Skills", "Loads named instructions when they are needed."),
        Group("notify", "Notify", "Tells the person who started the work something at once."),
        Group(
            "task_setup_tools",
            "Task set-up",
            "Arranges teammates, tasks, runs, inboxes and apps of its own scope.",
            True,
        ),
        Group("feedback", "Feedback", "Reports problems to those who run Muster.", True),
        Group("demo", "Demo", "Pretends to act, so that the demo can show an approval."),
    )
}


def offered(*, off: Iterable[str], may_ask: bool, for_end_user: bool, demo: bool) -> list[Tool]:
    """The built-in tools that a run may use; `off` has names of tools and of groups."""
    switched_off = set(off)
    return [
        tool
        for tool in REGISTRY.values()
        if not {tool.name, tool.group} & switched_off
        and (may_ask or not tool.asks_a_person)
        and (tool.safe_for_end_users or not for_end_user)
        and (demo or not tool.demo_only)
    ]
