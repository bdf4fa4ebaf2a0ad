"""The tools of a run: built in and from servers, as its switches and its organization allow."""

from dataclasses import dataclass, field

from runs.models import Run
from teammates import sandbox, tools
from teammates.integrations import server_lookup, tool_policies
from teammates.models import ToolServer, ToolSetting
from teammates.tools.base import Tool
from teammates.tools.python import RUN_PYTHON
from teammates.tools.result import submit_result


@dataclass(frozen=True)
class Toolbox:
    tools: dict[str, Tool]
    settings: dict[str, ToolSetting] = field(default_factory=dict)
    # Tools that exist and cannot be used right now, and why.
    missing: dict[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Tool | None:
        return self.tools.get(name)

    def may_ask_about(self, tool: Tool) -> bool:
        """Whether `policy.evaluate` could say anything but go; what only reads is not looked up."""
        return (
            tool.name in self.settings or tool.guarded or tool.changes or tool.approval == "always"
        )


def tools_of_run(run: Run, *, has_settings: bool = True) -> Toolbox:
    """What the run may use at this moment, in at most four queries, whatever the number of tools;
    `has_settings` is False where it is known that its organization has none."""
    settings = tool_policies.settings_of(run.organization) if has_settings else {}
    off = [*run.teammate_version.disabled_tools, *tool_policies.switched_off(settings.values())]
    switches = {
        "memory": run.memory,
        "task_setup_tools": run.task_setup_tools,
        "feedback": run.feedback,
    }
    off += [group for group, is_on in switches.items() if not is_on]
    if run.task.is_ad_hoc or not run.task.learns or run.teammate_version.self_improvement is False:
        off.append("lessons")
    if not (run.told or {}).get("skills"):
        off.append("skills")  # there are none to load
    if not (run.told or {}).get("documents"):
        off.append("search_documents")
    if not run.teammate.fetchmail_name:
        off.append("mailbox")
    if getattr(run.organization, "web_search", None) is None:
        off.append("web_search")  # nobody said where
    if no_sandbox := sandbox.why_not():
        off.append("code")
    found = tools.offered(
        off=off,
        may_ask=run.human_in_the_loop,
        for_end_user=run.end_user_id is not None,
        demo=run.route is not None and run.route.provider.kind == "demo",
    )
    if run.output_schema is not None:
        found.append(submit_result(run.output_schema))
    missing = {
        tool.name: f"{tool.title} is switched off."
        for tool in tools.REGISTRY.values()
        if {tool.name, tool.group} & set(off)
    }
    if no_sandbox:
        missing[RUN_PYTHON.name] = f"No code can be run here right now: {no_sandbox}"
    for server in servers_of(run):
        for tool in server_lookup.tools_of(server):
            if not server.may_be_used:  # type: ignore[attr-defined]  # annotated
                missing[tool.name] = (
                    f"{server.name} is not for whoever started this run, or not for this teammate."
                )
            elif server.is_failing:
                reason = server.status_reason
                missing[tool.name] = f"{server.name} is not there right now: {reason}"
            elif tool.name in off:
                missing[tool.name] = f"{tool.title} is switched off."
            else:
                found.append(tool)
    return Toolbox({tool.name: tool for tool in found}, settings, missing)


def servers_of(run: Run) -> list[ToolServer]:
    """The servers that the run names; each says whether it `may_be_used` here."""
    return server_lookup.servers_of(
        run.organization,
        run.end_user,
        run.tools,
        by=run.created_by_id,
        teammate_id=run.teammate_id,
    )


def find_tool(run: Run, name: str) -> Tool | None:
    """One of the run's tools as it is at this moment."""
    return tools_of_run(run).get(name)
