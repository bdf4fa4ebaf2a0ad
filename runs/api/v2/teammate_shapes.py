"""v2: a teammate as it is given and shown (contract v2 2.2)."""

from runs.queries import activity
from teammates.api.schemas import (
    ApiRequest,
    Input,
    address_of,
    changes_of,
    iso,
)
from teammates.errors import Invalid, NotFound
from teammates.models import Teammate
from teammates.roster import lookup, webhook_tokens
from teammates.types import JSON


class TeammateFields(Input):
    name: str | None = None
    instructions: str | None = None
    role: str | None = None
    goals: str | None = None
    tools: list[str] | None = None
    metadata: JSON | None = None
    allowed_senders: list[str] | None = None
    default_permission_mode: str | None = None
    model: str | None = None
    effort: str | None = None
    enable_memory: bool | None = None
    enable_history: bool | None = None
    enable_task_setup_tools: bool | None = None
    enable_feedback: bool | None = None
    enable_self_improvement: bool | None = None
    prompt_profile: str | None = None
    disabled_builtin_tools: list[str] | None = None
    inbound_imessage_enabled: bool | None = None
    imessage_chat_guid: str | None = None
    bridge_id: int | None = None
    allowed_imessage_senders: list[str] | None = None
    inbound_slack_enabled: bool | None = None
    slack_slug: str | None = None
    slack_channels: list[str] | None = None
    allowed_slack_senders: list[str] | None = None
    group_id: int | None = None


class TeammateCreate(TeammateFields):
    user_id: str | None = None
    email_inbox: bool = False
    webhook: bool = False
    from_template: str | None = None


class TeammateUpdate(TeammateFields):
    display_order: int | None = None
    visibility: str | None = None


class ResetIn(Input):
    fields: list[str] | None = None


# Our words for the wire's, where they differ.
WIRE = {
    "default_permission_mode": "permission_mode",
    "enable_memory": "memory",
    "enable_history": "history",
    "enable_task_setup_tools": "task_setup_tools",
    "enable_feedback": "feedback",
    "enable_self_improvement": "self_improvement",
    "disabled_builtin_tools": "disabled_tools",
    "inbound_imessage_enabled": "imessage_enabled",
    "imessage_chat_guid": "imessage_chat",
    "allowed_imessage_senders": "imessage_senders",
    "inbound_slack_enabled": "slack_enabled",
    "allowed_slack_senders": "slack_senders",
}
# null means: back to the default.
CLEARED: JSON = {
    "model": "",
    "effort": "",
    "memory": None,
    "history": None,
    "task_setup_tools": None,
    "feedback": None,
    "self_improvement": None,
    "instructions": "",
    "role": "",
    "goals": "",
    "tools": [],
    "disabled_tools": [],
    "display_order": None,
    "metadata": None,
    "allowed_senders": None,
    "imessage_chat": None,
    "imessage_senders": None,
    "slack_slug": None,
    "slack_senders": None,
}
# What other parts of the hosted product would hold, and this one has not.
FOREIGN = ("group_id", "bridge_id", "slack_channels")
# Of a new teammate: what is no field of its own.
MAKING = ("user_id", "email_inbox", "webhook", "from_template")
FROM_A_TEMPLATE = ("instructions", "role", "goals", "tools")


def changes_of_body(payload: TeammateFields) -> JSON:
    """What the body says, in our words."""
    _refuse_foreign(payload)
    return changes_of(payload, WIRE, CLEARED, without={*FOREIGN, *MAKING})


def _refuse_foreign(payload: TeammateFields) -> None:
    if payload.group_id is not None:
        raise NotFound("There is no such group.", code="groups.not_found")
    if payload.bridge_id is not None:
        raise NotFound("There is no such bridge.", code="bridges.not_found")
    if payload.slack_channels:
        raise Invalid("slack_channels: no Slack workspace is connected.")


def masked_url(teammate: Teammate, request: ApiRequest) -> str | None:
    path = webhook_tokens.masked_path("mates", teammate.pk, teammate)
    return path and address_of(request) + path


def teammate_out(teammate: Teammate, request: ApiRequest) -> JSON:
    """A teammate `activity.with_activity`, with every key of contract v2 2.2."""
    version, access = teammate.current_version, request.auth
    at_work = activity.activity_of(teammate)
    may_manage = lookup.may_edit(access, teammate)
    return {
        "id": teammate.pk,
        "name": teammate.name,
        "instructions": version.instructions or None,
        "role": version.role or None,
        "goals": version.goals or None,
        "tools": version.tools,
        "user_id": teammate.end_user.external_id if teammate.end_user else None,
        "metadata": teammate.metadata,
        "allowed_senders": teammate.allowed_senders,
        "default_permission_mode": version.permission_mode,
        "model": version.model or None,
        "effort": version.effort or None,
        "enable_memory": version.memory,
        "enable_history": version.history,
        "enable_task_setup_tools": version.task_setup_tools,
        "enable_feedback": version.feedback,
        "enable_self_improvement": version.self_improvement,
        "prompt_profile": version.prompt_profile,
        "disabled_builtin_tools": version.disabled_tools,
        "display_order": teammate.display_order,
        "visibility": teammate.visibility,
        "inbound_imessage_enabled": teammate.imessage_enabled,
        "imessage_chat_guid": teammate.imessage_chat,
        "bridge_id": None,
        "allowed_imessage_senders": teammate.imessage_senders,
        "inbound_slack_enabled": teammate.slack_enabled,
        "slack_slug": teammate.slack_slug,
        "slack_channels": [],
        "allowed_slack_senders": teammate.slack_senders,
        "version": version.number,
        "status": teammate.status,
        "created_at": iso(teammate.created_at),
        "updated_at": iso(teammate.updated_at),
        "template_slug": teammate.template_slug or None,
        "inbound_email_enabled": bool(teammate.inbox_name),
        "email_address": teammate.email_address,
        "fetchmail_enabled": bool(teammate.fetchmail_name),
        "fetchmail_address": teammate.fetchmail_address,
        "webhook_enabled": teammate.hook_enabled,
        "webhook_url": masked_url(teammate, request),
        "last_active_at": iso(at_work.last_active_at),
        "active_run_count": at_work.active_run_count,
        "active_run_id": at_work.active_run_id,
        "group_id": None,
        "group_name": None,
        "can_manage": may_manage,
        "can_execute": access.may("data.runs.write"),
        "can_share": may_manage,
    }
