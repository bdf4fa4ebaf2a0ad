"""Built-in tools about the organization's set-up: its teammates, tasks, runs and apps."""

from dataclasses import replace

from runs.creation import enqueue, options, requests
from runs.models import (
    Channel,
    Gate,
    GateStatus,
    HistoryOf,
    Run,
    RunFile,
    Task,
    ToolCall,
)
from runs.models.run_query import RunQuerySet
from runs.models.task import TaskQuerySet
from runs.tasks import tasks
from runs.tools.messages import hear
from teammates.access import Access
from teammates.errors import Conflict, Forbidden, Invalid, NotFound
from teammates.integrations.app_catalog import CATALOG
from teammates.models import PermissionMode, PermissionPolicy, Teammate, ToolServer
from teammates.models.teammate import TeammateQuerySet
from teammates.roster import channels, editing, lookup
from teammates.types import JSON, ToolOutput
from threads import files

MOST_LISTED = 50
DEEPEST = 5  # runs that start runs that start runs
MOST_STARTED = 50  # runs that come of one, at whatever depth
# From loose to strict: what a run makes is never looser than itself.
STRICTNESS: list[str] = [PermissionMode.AUTONOMOUS, PermissionMode.APPROVAL, PermissionMode.PLAN]


def list_teammates(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    return [
        {
            "teammate_id": one.pk,
            "name": one.name,
            "role": one.current_version.role,
            "tools": one.current_version.tools,
            "status": one.status,
        }
        for one in _teammates(run, access).with_version().order_by("-id")[:MOST_LISTED]
    ]


def create_teammate(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    made = editing.create_teammate(
        access,
        end_user=run.end_user,
        name=arguments["name"],
        role=arguments.get("role", ""),
        instructions=arguments.get("instructions", ""),
        tools=_own_tools(run, arguments.get("tools")),
        permission_mode=run.permission_mode,
        disabled_tools=run.teammate_version.disabled_tools,
    )
    return {"teammate_id": made.pk, "name": made.name}


def update_teammate(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    teammate = _teammate(run, access, arguments["teammate_id"])
    lookup.require_editor(access, teammate)
    _refuse_stronger(run, teammate)
    changes = {k: v for k, v in arguments.items() if k in ("role", "instructions")}
    if "tools" in arguments:
        changes["tools"] = _own_tools(run, arguments["tools"])
    changed = editing.update_teammate(access, teammate, **changes)
    return {"teammate_id": changed.pk, "version": changed.current_version.number}


def _own_tools(run: Run, wanted: list[str] | None) -> list[str]:
    """Apps that the run itself may use: it cannot give what it does not have."""
    for name in wanted or []:
        if name not in run.tools:
            raise Invalid(f"tools: you do not have {name!r} yourself, so you cannot give it.")
    return list(wanted or [])


def _refuse_stronger(run: Run, teammate: Teammate) -> None:
    """Raise `Forbidden` if the teammate may do what the run may not."""
    version = teammate.current_version
    is_looser = STRICTNESS.index(version.permission_mode) < STRICTNESS.index(run.permission_mode)
    if is_looser or set(version.tools) - set(run.tools) or _kept_from(run, teammate):
        raise Forbidden(f"{teammate.name} may do more than this run; a person has to change it.")


def _kept_from(run: Run, teammate: Teammate) -> set[str]:
    """Built-in tools that the run's teammate goes without and the other has."""
    theirs = teammate.current_version.disabled_tools
    return set(run.teammate_version.disabled_tools) - set(theirs)


def set_inbox(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    teammate = _teammate(run, access, arguments["teammate_id"])
    lookup.require_editor(access, teammate)
    changed = channels.set_inbox(access, teammate, enabled=arguments["enabled"])
    return {"teammate_id": changed.pk, "address": changed.email_address}


def list_tasks(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    return [
        {
            "task_id": task.pk,
            "name": task.name,
            "teammate_id": task.teammate_id,
            "instructions": task.instructions[:500],
        }
        for task in _tasks(run, access).order_by("-id")[:MOST_LISTED]
    ]


def create_task(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    wanted = arguments.get("teammate_id")
    teammate = _teammate(run, access, wanted) if wanted else run.teammate
    task = tasks.create_task(
        access,
        teammate,
        name=arguments["name"],
        instructions=arguments["instructions"],
        end_user=run.end_user,
    )
    return {"task_id": task.pk, "name": task.name}


def run_task(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    task = _tasks(run, access).select_related("teammate").filter(pk=arguments["task_id"]).first()
    if task is None or not task.is_enabled:
        raise NotFound("There is no such task in this scope; list_tasks names those there are.")
    if run.depth >= DEEPEST:
        raise Conflict(f"Runs may start runs {DEEPEST} deep, and this is the last of them.")
    text = requests.prompt_of(task, arguments.get("message", ""))
    teammate = lookup.get_teammate(replace(access, end_user=None), task.teammate_id)
    if _kept_from(run, teammate):
        raise Forbidden(f"{teammate.name} has tools that you go without; a person has to start it.")
    root = run.root_id or run.pk
    if Run.objects.filter(root_id=root).count() >= MOST_STARTED:
        raise Conflict(f"The work that began it all started {MOST_STARTED} runs already.")
    wanted = options.options_of_task(task).merged_with(
        options.options_of_version(teammate.current_version)
    )
    own_mode = task.permission_mode or teammate.current_version.permission_mode
    mode = max(run.permission_mode, own_mode, key=STRICTNESS.index)
    started = enqueue.start_in_new_thread(
        access,
        text,
        teammate,
        options.Options(
            permission_mode=mode,
            human_in_the_loop=mode != PermissionMode.AUTONOMOUS,
            tools=[name for name in wanted.tools or [] if name in run.tools],
            # A switch that is off here stays off; one that is on leaves it to the task.
            memory=run.memory and None,
            history=run.history and None,
            task_setup_tools=run.task_setup_tools and None,
            feedback=run.feedback and None,
        ),
        end_user=run.end_user,
        title=task.name,
        channel=Channel(run.channel),
        history_of=HistoryOf.TEAMMATE,
        task=task,
        started_by=run,
    )
    return {"run_id": started.pk, "status": "running"}


def list_runs(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    runs = _runs(run, access).for_list()
    if task_id := arguments.get("task_id"):
        runs = runs.filter(task_id=task_id)
    return [
        {"run_id": one.pk, "title": one.title, "status": one.status, "teammate": one.teammate.name}
        for one in runs.newest_first()[:MOST_LISTED]
    ]


def get_run(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    found = (
        _runs(run, access)
        .for_list()
        .select_related("answer")
        .filter(pk=arguments["run_id"])
        .first()
    )
    if found is None:
        raise NotFound("There is no such run in this scope.")
    answer = hear(run, found, found.answer.content if found.answer else "")
    written = RunFile.objects.filter(run=found).values_list("file__name", flat=True).distinct()
    return {
        "run_id": found.pk,
        "title": found.title,
        "status": found.status,
        "answer": answer or None,
        "error": found.error_message or None,
        "files": sorted(written),
    }


def read_run_file(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    found = _runs(run, access).select_related("thread").filter(pk=arguments["run_id"]).first()
    written = RunFile.objects.filter(run=found, file__name=arguments["name"])
    newest = written.select_related("file").order_by("-file__version").first()
    if found is None or newest is None:
        raise NotFound("There is no such file of a run of this scope; get_run names its files.")
    try:
        text = hear(run, found, files.read_file(newest.file).decode())
    except UnicodeDecodeError:
        raise Invalid(f"{arguments['name']} is not a text file.") from None
    return {"name": newest.file.name, "content": text}


def list_approvals(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    waiting = (
        Gate.objects.filter(status=GateStatus.PENDING, run__in=_runs(run, access))
        .select_related("run__thread")
        .order_by("-id")[:MOST_LISTED]
    )
    allowed = PermissionPolicy.objects.visible_to(access).order_by("-id")[:MOST_LISTED]
    if access.origin:  # strangers do not learn what would go through
        allowed = PermissionPolicy.objects.none()
    return {
        "waiting": [
            {"run_id": gate.run_id, "what": hear(run, gate.run, gate.prompt)} for gate in waiting
        ],
        "allowed": [{"tool": policy.tool, "only_with": policy.pattern} for policy in allowed],
    }


def list_apps(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    servers = ToolServer.objects.visible_to(access).order_by("id")
    if access.origin:
        servers = servers.filter(slug__in=run.tools)
    connected = {server.slug: server.name for server in servers}
    known = {app.name: app.display_name for app in CATALOG.values()} | connected
    return [
        {"name": slug, "title": title, "connected": slug in connected, "yours": slug in run.tools}
        for slug, title in known.items()
    ]


def _teammates(run: Run, access: Access) -> TeammateQuerySet:
    """The scope's teammates; for a member, without colleagues' personal ones."""
    return Teammate.objects.visible_to(access).current().filter(end_user=run.end_user)


def _teammate(run: Run, access: Access, teammate_id: int) -> Teammate:
    found: Teammate | None = _teammates(run, access).with_version().filter(pk=teammate_id).first()
    if found is None:
        raise NotFound("There is no such teammate in this scope; list_teammates names them.")
    return found


def _tasks(run: Run, access: Access) -> TaskQuerySet:
    """The scope's tasks; a member's own."""
    saved = Task.objects.visible_to(access).saved().current()
    return saved if run.end_user_id else saved.filter(end_user=None)


def _runs(run: Run, access: Access) -> RunQuerySet:
    runs = Run.objects.visible_to(access)
    return runs if run.end_user_id else runs.filter(end_user=None)
