"""The task set-up tools: a teammate arranges teammates, tasks and runs of its own scope.

What is made can never do more than the run that made it (`runs/tools/setup.py` sees to that).
"""

from collections.abc import Callable

from teammates.tools.base import Means, Text, Tool, number, object_schema
from teammates.types import JSON

GROUP = "task_setup_tools"


def _names(description: str) -> JSON:
    return {
        "type": "array",
        "description": description,
        "maxItems": 50,
        "items": {"type": "string"},
    }


def _tool(
    name: str,
    title: str,
    description: str,
    schema: JSON,
    say: Callable[[JSON], str],
    *,
    changes: bool = False,
    consequence: str = "",
) -> Tool:
    return Tool(
        name=name,
        title=title,
        description=description,
        schema=schema,
        say=say,
        run=Means.DOMAIN,
        group=GROUP,
        changes=changes,
        consequence=consequence,
        risk="medium" if changes else "low",
        guarded=changes,
    )


_ABOUT_TEAMMATE = {
    "role": Text("One line: what it is for.", 200).schema,
    "instructions": Text("What it should know and how it should work.", 20_000).schema,
    "tools": _names("Slugs of connected apps it may use."),
}

SETUP_TOOLS = [
    _tool(
        "list_teammates",
        "List teammates",
        "List the teammates of this scope.",
        object_schema([]),
        lambda a: "List the teammates",
    ),
    _tool(
        "create_teammate",
        "Create a teammate",
        "Create a teammate for work that comes back.",
        object_schema(["name"], name=Text("Its name.", 255).schema, **_ABOUT_TEAMMATE),
        lambda a: f"Create the teammate {a['name']}",
        changes=True,
        consequence="A new teammate appears for everybody who may use this scope.",
    ),
    _tool(
        "update_teammate",
        "Change a teammate",
        "Change a teammate's role, instructions or apps; what is left out stays.",
        object_schema(["teammate_id"], teammate_id=number("Its id."), **_ABOUT_TEAMMATE),
        lambda a: f"Change teammate {a['teammate_id']}",
        changes=True,
        consequence="Later runs of that teammate follow the new version.",
    ),
    _tool(
        "set_inbox",
        "Switch an inbox",
        "Give a teammate an e-mail address, or take it away.",
        object_schema(
            ["teammate_id", "enabled"],
            teammate_id=number("Its id."),
            enabled={"type": "boolean"},
        ),
        lambda a: f"{'Open' if a['enabled'] else 'Close'} the inbox of teammate {a['teammate_id']}",
        changes=True,
        consequence="Mail to that address starts runs.",
    ),
    _tool(
        "list_tasks",
        "List tasks",
        "List the saved tasks of this scope.",
        object_schema([]),
        lambda a: "List the tasks",
    ),
    _tool(
        "create_task",
        "Save a task",
        "Save work that a teammate can be asked for again.",
        object_schema(
            ["name", "instructions"],
            name=Text("A short name.", 255).schema,
            instructions=Text("What to do, complete in itself.", 20_000).schema,
            teammate_id=number("Who does it; you, if left out."),
        ),
        lambda a: f"Save the task {a['name']}",
        changes=True,
    ),
    _tool(
        "run_task",
        "Start a task",
        "Start a run of a saved task, in a thread of its own.",
        object_schema(
            ["task_id"],
            task_id=number("The task's id."),
            message=Text("What to add to its instructions this time.", 10_000).schema,
        ),
        lambda a: f"Start task {a['task_id']}",
        changes=True,
        consequence="A run begins at once and costs what it uses.",
    ),
    _tool(
        "list_runs",
        "List runs",
        "List the newest runs of this scope.",
        object_schema([], task_id=number("Only of this task.")),
        lambda a: "List the newest runs",
    ),
    _tool(
        "get_run",
        "Look at a run",
        "The state, answer and files of a run of this scope.",
        object_schema(["run_id"], run_id=number("The run's id.")),
        lambda a: f"Look at run {a['run_id']}",
    ),
    _tool(
        "read_run_file",
        "Read a run's file",
        "Read a text file that a run of this scope wrote.",
        object_schema(
            ["run_id", "name"],
            run_id=number("The run's id."),
            name=Text("The file's name.", 255).schema,
        ),
        lambda a: f"Read {a['name']} of run {a['run_id']}",
    ),
    _tool(
        "list_approvals",
        "List approvals",
        "What waits for a person in this scope, and what is allowed without asking.",
        object_schema([]),
        lambda a: "List approvals and permissions",
    ),
    _tool(
        "list_apps",
        "List apps",
        "The apps that can be connected, and those that are.",
        object_schema([]),
        lambda a: "List the apps",
    ),
]
