"""How a run works: what was asked for, and what it takes from its task and its teammate."""

import json
from dataclasses import dataclass, replace

from runs.models import Run, Task
from teammates import timebox
from teammates.access import Access
from teammates.errors import Invalid
from teammates.integrations import server_lookup
from teammates.llm import catalog
from teammates.models import Effort, Model, PermissionMode, TeammateVersion
from teammates.types import JSON

MOST_TURNS = 2000


@dataclass(frozen=True)
class Options:
    """What a request may override; None inherits (run > task > teammate > platform)."""

    model: str | None = None  # an alias
    route: Model | None = None  # the model of that alias, once it was looked up
    effort: str | None = None
    permission_mode: str | None = None
    human_in_the_loop: bool | None = None
    tools: list[str] | None = None
    memory: bool | None = None
    history: bool | None = None
    task_setup_tools: bool | None = None
    feedback: bool | None = None
    metadata: JSON | None = None
    output_schema: JSON | None = None
    max_turns: int | None = None
    skill: str | None = None
    email_notifications: bool | None = None

    def merged_with(self, inherited: "Options") -> "Options":
        """These, and what they leave open as it is `inherited`."""
        mine = {name: value for name, value in vars(self).items() if value is not None}
        if self.model is not None:  # its route replaces an inherited one, looked up or not
            mine["route"] = self.route
        return replace(inherited, **mine)


def options_of_run(run: Run) -> Options:
    """Everything that an earlier run was resolved to."""
    return Options(
        model=run.route.alias if run.route else None,
        effort=run.effort or None,
        permission_mode=run.permission_mode,
        human_in_the_loop=run.human_in_the_loop,
        tools=run.tools,
        memory=run.memory,
        history=run.history,
        task_setup_tools=run.task_setup_tools,
        feedback=run.feedback,
        metadata=run.metadata,
        output_schema=run.output_schema,
        max_turns=run.max_turns,
        skill=run.skill or None,
        email_notifications=run.email_notifications,
    )


def options_of_version(version: TeammateVersion) -> Options:
    return replace(_of(version), tools=version.tools)


def options_of_task(task: Task) -> Options:
    return replace(_of(task), tools=task.tools)


def _of(source: TeammateVersion | Task) -> Options:
    """What a teammate or a task says; what it leaves open is None."""
    return Options(
        model=source.model or None,
        effort=source.effort or None,
        permission_mode=source.permission_mode or None,
        memory=source.memory,
        history=source.history,
        task_setup_tools=source.task_setup_tools,
        feedback=source.feedback,
    )


def check_options(access: Access, options: Options) -> Options:
    """The options with their model looked up. Raises `Invalid` naming what no run can have.

    Outside of transactions: a schema is judged in a process of its own, which may take seconds.
    """
    if options.permission_mode is not None and options.permission_mode not in PermissionMode.values:
        raise Invalid(f"permission_mode must be one of {', '.join(PermissionMode.values)}.")
    if options.human_in_the_loop is False and options.permission_mode in ("approval", "plan"):
        raise must_ask(options.permission_mode)
    if options.effort and options.effort not in Effort.values:
        raise Invalid(f"effort must be one of {', '.join(Effort.values)}.")
    server_lookup.check_tools(access.organization, access.end_user, options.tools or [])
    if options.max_turns is not None and not 1 <= options.max_turns <= MOST_TURNS:
        raise Invalid(f"max_turns must be 1 to {MOST_TURNS}.")
    if options.output_schema is not None:
        _check_output_schema(options.output_schema)
    if not options.model:
        return options
    return replace(options, route=catalog.resolve_model(access.organization, options.model))


def must_ask(mode: str) -> Invalid:
    return Invalid(f"human_in_the_loop must not be false with permission_mode {mode}.")


def _check_output_schema(schema: JSON) -> None:
    if schema.get("type") != "object":
        raise Invalid("output_schema must have type object at its root.")
    if any(f'"{word}"' in json.dumps(schema) for word in ("$ref", "$defs")):
        raise Invalid("output_schema must not use $ref or $defs.")
    from teammates.tools import schemas  # loaded with the first one

    try:
        wrong = timebox.within(schemas.SECONDS, schemas.unusable, schema)
    except timebox.TooCostly:
        wrong = "is too complicated"
    if wrong:
        raise Invalid(f"output_schema {wrong}.")
