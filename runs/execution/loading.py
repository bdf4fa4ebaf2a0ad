"""What the next step of a run needs, loaded and asked for."""

import asyncio
from collections.abc import Sequence

from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from config.compiled import Hole, compiled
from config.database import in_db
from runs.events.log import StaleLease
from runs.execution import context, tool_step
from runs.execution.attempt import LoadedRun
from runs.execution.model_failures import trailing_errors
from runs.lifecycle.transitions import Lease
from runs.models import Run, RunFile, StepKind, StepStatus
from runs.models.run_query import RunQuerySet
from runs.tools import toolbox
from teammates.integrations import discovery
from teammates.llm import catalog
from teammates.models import (
    APIKey,
    Document,
    Membership,
    Memory,
    ServerKind,
    Skill,
    ToolServer,
    ToolSetting,
)
from teammates.types import JSON

RECHECK_SECONDS = 60  # until a run asks an MCP server again what it offers


# --- load ---------------------------------------------------------------------------------------
@compiled
def _run_to_work_on(pk: Hole, fence: Hole) -> RunQuerySet:
    """A run with everything that its first step needs to know, and whether there is more."""
    mine = {"organization": OuterRef("organization")}
    knows = [Exists(rows.filter(**mine)) for rows in (Memory.objects, Document.objects)]
    members = Membership.objects.filter(**mine, user=OuterRef("created_by"), user__is_active=True)
    keys = APIKey.objects.filter(pk=OuterRef("api_key"), revoked_at=None)
    organizations = keys.filter(
        Q(expires_at=None) | Q(expires_at__gt=Now()), is_organizations=True, created_by=None
    )
    by_member = Q(Exists(members)) & (Q(api_key=None) | Q(Exists(keys)))
    attached = RunFile.objects.filter(run__thread=OuterRef("thread"), is_attachment=True)
    runs = Run.objects.filter(pk=pk, fence=fence).select_related(
        "thread",
        "teammate",
        "teammate_version",
        "prompt",
        "route__provider__organization",
        "organization__web_search",
        "end_user",
        "task",
    )
    return runs.annotate(
        has_attachments=Exists(attached),  # in its thread
        has_tool_settings=Exists(ToolSetting.objects.filter(**mine)),
        has_knowledge=knows[0] | knows[1] | Exists(Skill.objects.filter(**mine)),
        asker_is_there=by_member | Q(Exists(organizations)),
    )


def load_run(lease: Lease, *, has_steps: bool) -> LoadedRun:
    """What the next step needs, after finished ones if the run `has_steps`. Raises `StaleLease`."""
    run = _run_to_work_on.first(pk=lease.run_id, fence=lease.fence)
    if run is None:
        raise StaleLease
    run.route = run.route or catalog.resolve_model(run.organization)
    done = list(run.steps.defer("request", "response").order_by("number")) if has_steps else []
    open_step = next((s for s in done if s.status == StepStatus.RUNNING), None)
    loaded = LoadedRun(
        run=run,
        next_number=done[-1].number + 1 if done else 1,
        route=run.route,
        toolbox=toolbox.tools_of_run(run, has_settings=run.has_tool_settings),  # type: ignore[attr-defined]
        turns=sum(s.kind == StepKind.MODEL and s.status == StepStatus.DONE for s in done),
        retries=trailing_errors(done, run.route),
    )
    if open_step is not None and open_step.kind == StepKind.TOOLS:
        loaded.open_step = open_step
        loaded.open_calls = list(open_step.tool_calls.select_related("step").order_by("number"))
        loaded.bad_calls = tool_step.trailing_bad_calls(run)
    else:
        if run.told is None and not run.tools:
            _choose_context(loaded)
        else:
            loaded.instructions = context.instructions(run)
        loaded.request = context.request_of(run)
        loaded.conversation = context.conversation(run, loaded.request, done)
    return loaded


def refresh(loaded: LoadedRun) -> None:
    """What may have changed since the last step: the tools, and the words about how to work."""
    loaded.toolbox = toolbox.tools_of_run(loaded.run)
    loaded.instructions = context.instructions(loaded.run)


async def gather_context(loaded: LoadedRun) -> None:
    """Ask the servers that a run names for their tools, and choose its context, once."""
    named = await in_db(toolbox.servers_of, loaded.run)
    attached = [server for server in named if server.may_be_used]  # type: ignore[attr-defined]
    changes = await asyncio.gather(*(_refreshed(server) for server in attached))
    await in_db(_choose_context, loaded, named, attached, changes)


def _choose_context(
    loaded: LoadedRun,
    named: Sequence[ToolServer] = (),
    attached: Sequence[ToolServer] = (),
    changes: Sequence[JSON] = (),
) -> None:
    """What a run is told besides the conversation. Raises `Forbidden` once its asker is gone."""
    run = loaded.run
    run.told = loaded.gathered = context.gather(run) | {
        "failing_servers": [
            {"server": server.slug, "name": server.name, "reason": server.status_reason}
            for server in attached
            if server.is_failing
        ],
        "changed_servers": [change for change in changes if change],
        "not_allowed": [server.name for server in named if server not in attached],
        "not_connected": [
            name for name in run.tools if name not in {server.slug for server in named}
        ],
    }
    if attached or run.told["skills"] or run.told["documents"]:
        loaded.toolbox = toolbox.tools_of_run(run)
    loaded.instructions = context.instructions(run)


async def _refreshed(server: ToolServer) -> JSON:
    """Ask a server what it offers, unless it said so just now; what changed, if anything did."""
    if server.kind == ServerKind.REST_API or discovery.is_fresh(server, RECHECK_SECONDS):
        return {}
    before = server.described
    checked = await discovery.ask(server.connection)
    await in_db(discovery.record_check, server, checked)
    difference = discovery.difference(before, server.described)
    return {"server": server.slug, "name": server.name, **difference} if difference else {}
