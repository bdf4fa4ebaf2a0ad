"""What the built-in tools that work on the domain do: one function per tool.

Each runs in the transaction that writes its result into the journal of calls: its effect and the
record of it are one, so a crash can neither lose nor repeat it. It acts with the access of whoever
started the run, in exactly the run's scope, and what it makes can do no more than the run itself.
"""

from collections.abc import Callable
from typing import Any

from runs.models import Run, ToolCall
from runs.tools.authority import access_of_run
from runs.tools.knowledge import (
    forget,
    learn_lesson,
    load_skill,
    read_document,
    recall,
    remember,
    write_document,
)
from runs.tools.messages import notify, read_mailbox, report_issue, submit_result
from runs.tools.setup import (
    create_task,
    create_teammate,
    get_run,
    list_approvals,
    list_apps,
    list_runs,
    list_tasks,
    list_teammates,
    read_run_file,
    run_task,
    set_inbox,
    update_teammate,
)
from teammates.access import Access
from teammates.tools import result as result_tool
from teammates.types import JSON

Verb = Callable[[Run, Access, ToolCall, JSON], Any]


def perform(run: Run, call: ToolCall, name: str, arguments: Any) -> Any:
    """Do what the tool says; call inside the transaction of the call's result. Raises
    `DomainError`."""
    return VERBS[name](run, access_of_run(run), call, arguments)


VERBS: dict[str, Verb] = {
    "remember": remember,
    "recall": recall,
    "forget": forget,
    "load_skill": load_skill,
    "write_document": write_document,
    "read_document": read_document,
    "learn_lesson": learn_lesson,
    "read_mailbox": read_mailbox,
    "notify": notify,
    "report_issue": report_issue,
    result_tool.NAME: submit_result,
    "list_teammates": list_teammates,
    "create_teammate": create_teammate,
    "update_teammate": update_teammate,
    "set_inbox": set_inbox,
    "list_tasks": list_tasks,
    "create_task": create_task,
    "run_task": run_task,
    "list_runs": list_runs,
    "get_run": get_run,
    "read_run_file": read_run_file,
    "list_approvals": list_approvals,
    "list_apps": list_apps,
}
