"""Whether a call may be made, must be asked for, or is refused."""

from dataclasses import dataclass
from typing import Any, Literal

from runs.models import Run
from teammates.integrations import tool_policies
from teammates.models import PermissionMode, PermissionPolicy, ToolMode, ToolSetting
from teammates.tools.ask import PLAN_HEADER
from teammates.tools.base import Tool
from teammates.tools.web import WEB_FETCH

PLAN_FIRST = (
    "Propose a plan first: call AskUserQuestion with one question whose header is "
    f"'{PLAN_HEADER}', whose text is the plan, and whose options are Approve and Revise. "
    "Nothing may be changed before it is approved."
)


@dataclass(frozen=True)
class PolicyDecision:
    """`mode` is the one that was judged by: a change of it in between needs a new decision."""

    kind: Literal["go", "ask", "refuse"]
    mode: str
    why: str = ""  # for people, or, of a refusal, for the model
    reason: str = ""  # of a refusal, as a word
    policy: PermissionPolicy | None = None
    setting: ToolSetting | None = None
    outside: bool = False  # strangers may be behind what is asked for


def evaluate(run_id: int, tool: Tool, arguments: Any) -> PolicyDecision:
    """Decide by the run's mode at this moment, the organization's setting and the standing
    permissions of the run's scope (design 5 and 7, contract v2 4.5)."""
    run = Run.objects.select_related(
        "organization", "teammate", "teammate_version", "end_user", "thread"
    ).get(pk=run_id)
    setting = ToolSetting.objects.filter(organization=run.organization, tool=tool.name).first()
    mode = run.permission_mode
    if setting is not None and setting.mode == ToolMode.OFF:
        return PolicyDecision("refuse", mode, f"{tool.title} was switched off.", "switched_off")
    modes = {mode}
    if run.reply_to_id is not None and not run.human_in_the_loop:
        # A reply is not let loose: the teammate's own mode counts for what changes something.
        modes.add(run.teammate_version.permission_mode)
    if tool.guarded and run.has_words_from_outside:
        return _judge_words_from_outside(run, tool, arguments, setting)
    need = _need(run, tool, modes, setting)
    if not need:
        return PolicyDecision("go", mode, setting=setting)
    plans = PermissionMode.PLAN in modes and tool.changes and run.plan_approved_at is None
    if plans and run.human_in_the_loop:
        return PolicyDecision("refuse", mode, PLAN_FIRST, "plan_required")
    if may_be_remembered(tool, setting):
        policy = tool_policies.covering(run.organization, run.end_user, tool, arguments)
        if policy is not None:
            return PolicyDecision("go", mode, policy=policy, setting=setting)
    if not run.human_in_the_loop:
        refused = (
            f"{tool.title}: {need}, and nobody can be asked in this run, which works "
            "by itself. Let the teammate ask before it acts, or always allow this."
        )
        return PolicyDecision("refuse", mode, refused, "non_interactive")
    return PolicyDecision("ask", mode, need[:1].upper() + need[1:] + ".", setting=setting)


def _judge_words_from_outside(
    run: Run, tool: Tool, arguments: Any, setting: ToolSetting | None
) -> PolicyDecision:
    """What strangers ask for waits for a person, whatever the mode (invariant 12). Where the web is
    read, a standing permission names the hosts that people allowed."""
    if tool.name == WEB_FETCH.name and may_be_remembered(tool, setting):
        policy = tool_policies.covering(run.organization, run.end_user, tool, arguments)
        if policy is not None:
            return PolicyDecision("go", run.permission_mode, policy=policy, setting=setting)
    why = "Somebody outside of your organization wrote some of what this run works on."
    return PolicyDecision("ask", run.permission_mode, why, setting=setting, outside=True)


def _need(run: Run, tool: Tool, modes: set[str], setting: ToolSetting | None) -> str:
    """Why a person has to agree; empty if nobody has to."""
    if setting is not None and setting.mode == ToolMode.ASK:
        return "your organization always asks before this"
    if tool.approval == "never":
        return ""
    if tool.approval == "always":
        return (
            f"{tool.title.partition(':')[0]} is not trusted yet"
            if tool.server
            else "this needs an approval unless somebody always allows it"
        )
    if tool.changes and modes - {PermissionMode.AUTONOMOUS}:
        return f"{run.teammate.name} asks before it changes something"
    return ""


def may_be_remembered(tool: Tool, setting: ToolSetting | None) -> bool:
    """Whether a standing permission would count for the tool."""
    always_asks = setting is not None and (setting.mode == ToolMode.ASK or setting.approvals > 1)
    return tool.may_remember and not always_asks
