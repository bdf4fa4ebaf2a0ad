"""v2: teammates, which it also calls agents, and their templates (contract v2 2.2, 2.10)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from ninja import Router, Status

from runs.queries import activity
from runs.tasks import staffing
from teammates.access import Access
from teammates.api.schemas import (
    ApiRequest,
    EnabledIn,
    Input,
    Limit,
    address_of,
    changes_of,
    iso,
    paged,
    whole,
)
from teammates.api.scopes import scoped
from teammates.api.v2_knowledge import document_out
from teammates.errors import Invalid, NotFound, Unsuitable
from teammates.knowledge import documents
from teammates.models import PromptProfile, Teammate
from teammates.people import end_users
from teammates.roster import channels, editing, lookup, webhook_tokens
from teammates.roster.prompt import PROFILES, standing_prompt
from teammates.roster.templates import CATALOG, TeammateTemplate, get_template
from teammates.types import JSON

router = Router(tags=["teammates"])
F = TypeVar("F", bound=Callable[..., Any])


def both(method: str, path: str = "", **options: Any) -> Callable[[F], F]:
    """A route under both of its permanent names; the first is the documented one."""

    def add(view: F) -> F:
        register = getattr(router, method)
        view = register(f"/agents{path}", **options)(view)
        register(f"/teammates{path}", include_in_schema=False, **options)(view)
        return view

    return add


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


# --- make, look, change -------------------------------------------------------------------------


@both("post", response={201: JSON})
def create_teammate(request: ApiRequest, payload: TeammateCreate) -> Status[JSON]:
    """A teammate, from its fields or from a template. With `webhook`, the answer has the live
    `webhook_url`, which is not shown again."""
    access: Access = request.auth
    access.require("data.runs.write")
    access.for_end_user(payload.user_id).require_end_user()
    template = _template_of(payload)
    changes = _changes(payload)
    end_user = None
    if payload.user_id is not None:
        end_user = end_users.find_or_create(access, payload.user_id)
    if template is not None:
        own = {name: value for name, value in changes.items() if name not in FROM_A_TEMPLATE}
        teammate = staffing.create_from_template(
            access, template, end_user=end_user, email_inbox=payload.email_inbox, **own
        )
    else:
        teammate = editing.create_teammate(
            access,
            end_user=end_user,
            email_inbox=payload.email_inbox,
            **changes,
        )
    token = channels.make_webhook(request.auth, teammate) if payload.webhook else None
    shown = _shown(replace(access, end_user=None), teammate.pk, request)
    if token is not None:
        shown["webhook_url"] = address_of(request) + webhook_tokens.path(
            "mates", teammate.pk, token
        )
    return Status(201, shown)


@both("get")
def list_teammates(
    request: ApiRequest,
    user_id: str | None = None,
    limit: Limit = 20,
    starting_after: int | None = None,
    include_archived: bool = False,
    fields: str | None = None,
) -> JSON:
    """Newest first; archived ones only if asked for."""
    teammates = Teammate.objects.visible_to(scoped(request, user_id, "data.personas.read"))
    if not include_archived:
        teammates = teammates.current()
    rows = activity.with_activity(teammates.with_version()).order_by("-id")
    return paged(rows, limit, starting_after, lambda row: teammate_out(row, request))


@both("get", "/{teammate_id}")
def get_teammate(request: ApiRequest, teammate_id: int, user_id: str | None = None) -> JSON:
    return _shown(scoped(request, user_id, "data.personas.read"), teammate_id, request)


@both("patch", "/{teammate_id}")
def update_teammate(
    request: ApiRequest, teammate_id: int, payload: TeammateUpdate, user_id: str | None = None
) -> JSON:
    """Change what is given; null clears. A change of what it is told is a new version."""
    teammate = _find_to_edit(request, teammate_id, user_id)
    editing.update_teammate(request.auth, teammate, **_changes(payload))
    return _shown_again(request, teammate)


@both("delete", "/{teammate_id}", response={204: None})
def archive_teammate(
    request: ApiRequest, teammate_id: int, user_id: str | None = None
) -> Status[None]:
    """Archive; again is fine."""
    staffing.archive_teammate(request.auth, _find_to_edit(request, teammate_id, user_id))
    return Status(204, None)


@both("post", "/{teammate_id}/disable")
def disable_teammate(request: ApiRequest, teammate_id: int, user_id: str | None = None) -> JSON:
    """Start nothing any more, schedules included."""
    teammate = _find_to_edit(request, teammate_id, user_id)
    return _shown_again(request, staffing.set_enabled(request.auth, teammate, enabled=False))


@both("post", "/{teammate_id}/enable")
def enable_teammate(request: ApiRequest, teammate_id: int, user_id: str | None = None) -> JSON:
    """Work again, with the schedules that rested with it."""
    teammate = _find_to_edit(request, teammate_id, user_id)
    return _shown_again(request, staffing.set_enabled(request.auth, teammate, enabled=True))


@both("post", "/{teammate_id}/unarchive")
def unarchive_teammate(request: ApiRequest, teammate_id: int, user_id: str | None = None) -> JSON:
    """Bring an archived teammate back, paused."""
    teammate = _find_to_edit(request, teammate_id, user_id)
    return _shown_again(request, staffing.unarchive_teammate(request.auth, teammate))


@both("post", "/{teammate_id}/reset")
def reset_teammate(
    request: ApiRequest,
    teammate_id: int,
    payload: ResetIn | None = None,
    user_id: str | None = None,
) -> JSON:
    """Back to what its template says: the named fields, or all. [] if it has no template."""
    teammate = _find_to_edit(request, teammate_id, user_id)
    if teammate.template_slug not in CATALOG:
        return {"reset_fields": []}
    to = CATALOG[teammate.template_slug].versioned
    fields = payload.fields if payload else None
    changed = editing.reset_teammate(request.auth, teammate, to=to, fields=fields)
    return {"reset_fields": changed}


@both("get", "/{teammate_id}/system-prompt")
def get_system_prompt(request: ApiRequest, teammate_id: int, user_id: str | None = None) -> JSON:
    """What it is told before anything is asked of it."""
    teammate = _find(scoped(request, user_id, "data.personas.read"), teammate_id)
    version = teammate.current_version
    prompt = standing_prompt(teammate.name, version)
    return {
        "prompt_profile": version.prompt_profile,
        "profile_description": PROFILES[PromptProfile(version.prompt_profile)],
        "system_prompt": prompt,
        "characters": len(prompt),
    }


# --- how it is reached --------------------------------------------------------------------------


@both("post", "/{teammate_id}/webhook", response={201: JSON})
def make_teammate_webhook(
    request: ApiRequest, teammate_id: int, user_id: str | None = None
) -> Status[JSON]:
    """A webhook, or a new token for it. The address is not shown again."""
    teammate = _find_to_edit(request, teammate_id, user_id)
    path = webhook_tokens.path("mates", teammate.pk, channels.make_webhook(request.auth, teammate))
    return Status(201, {"enabled": True, "url": address_of(request) + path})


@both("patch", "/{teammate_id}/webhook")
def pause_teammate_webhook(
    request: ApiRequest, teammate_id: int, payload: EnabledIn, user_id: str | None = None
) -> JSON:
    teammate = _find_to_edit(request, teammate_id, user_id)
    changed = channels.pause_webhook(request.auth, teammate, paused=not payload.enabled)
    return {"enabled": changed.hook_enabled, "url": _masked_url(changed, request)}


@both("delete", "/{teammate_id}/webhook", response={204: None})
def remove_teammate_webhook(
    request: ApiRequest, teammate_id: int, user_id: str | None = None
) -> Status[None]:
    channels.remove_webhook(request.auth, _find_to_edit(request, teammate_id, user_id))
    return Status(204, None)


@both("post", "/{teammate_id}/email-inbox", response={201: JSON})
def open_inbox(request: ApiRequest, teammate_id: int, user_id: str | None = None) -> Status[JSON]:
    """An address whose mails start runs; again is the same address."""
    teammate = _find_to_edit(request, teammate_id, user_id)
    lookup.refuse_archived(teammate)
    changed = channels.set_inbox(request.auth, teammate, enabled=True)
    return Status(201, {"enabled": True, "address": changed.email_address})


@both("delete", "/{teammate_id}/email-inbox", response={204: None})
def close_inbox(request: ApiRequest, teammate_id: int, user_id: str | None = None) -> Status[None]:
    teammate = _find_to_edit(request, teammate_id, user_id)
    channels.set_inbox(request.auth, teammate, enabled=False)
    return Status(204, None)


@both("post", "/{teammate_id}/fetchmail", response={201: JSON})
def open_fetchmail(
    request: ApiRequest, teammate_id: int, user_id: str | None = None
) -> Status[JSON]:
    """An address whose mails it may read, which start nothing."""
    teammate = _find_to_edit(request, teammate_id, user_id)
    lookup.refuse_archived(teammate)
    changed = channels.set_fetchmail(request.auth, teammate, enabled=True)
    return Status(201, {"enabled": True, "address": changed.fetchmail_address})


@both("delete", "/{teammate_id}/fetchmail", response={204: None})
def close_fetchmail(
    request: ApiRequest, teammate_id: int, user_id: str | None = None
) -> Status[None]:
    channels.set_fetchmail(
        request.auth, _find_to_edit(request, teammate_id, user_id), enabled=False
    )
    return Status(204, None)


# --- what it has --------------------------------------------------------------------------------


@both("get", "/{teammate_id}/documents")
def list_teammate_documents(
    request: ApiRequest, teammate_id: int, user_id: str | None = None
) -> JSON:
    """The teammate's own documents, newest first."""
    teammate = _find(scoped(request, user_id, "data.personas.read"), teammate_id)
    rows = documents.list_documents(replace(request.auth, end_user=teammate.end_user))
    return whole([document_out(one) for one in rows.filter(teammate=teammate)])


@both("get", "/{teammate_id}/documents/{name}")
def get_teammate_document(
    request: ApiRequest, teammate_id: int, name: str, user_id: str | None = None
) -> JSON:
    teammate = _find(scoped(request, user_id, "data.personas.read"), teammate_id)
    scope = replace(request.auth, end_user=teammate.end_user)
    document = documents.get_document(scope, teammate=teammate, name=name)
    return document_out(document) | {"content": document.content}


@both("get", "/{teammate_id}/repos")
def list_repositories(request: ApiRequest, teammate_id: int, user_id: str | None = None) -> JSON:
    """None: teammates here have no repositories of their own."""
    _find(scoped(request, user_id, "data.personas.read"), teammate_id)
    return whole([])


# --- templates ----------------------------------------------------------------------------------


@router.get("/agent-templates")
@router.get("/teammate-templates", include_in_schema=False)
def list_templates(request: ApiRequest) -> JSON:
    """Ready-made teammates, for `from_template`."""
    return whole([template_out(template) for template in CATALOG.values()])


def template_out(template: TeammateTemplate) -> JSON:
    return {
        "slug": template.slug,
        "name": template.name,
        "description": template.description,
        "logo_ref": template.slug,
        "required_integrations": list(template.required_apps),
        "role": template.role,
        "goals": template.goals,
        "default_tasks": [
            {
                "slug": task.slug,
                "name": task.name,
                "instructions": task.instructions,
                "expected_output": task.expected_output or None,
            }
            for task in template.tasks
        ],
        "bootstrap_tasks": [],
        "questions": [{"question": question} for question in template.questions],
    }


# --- shared -------------------------------------------------------------------------------------


def _template_of(payload: TeammateCreate) -> TeammateTemplate | None:
    """Raises `NotFound` for an unknown one, `Unsuitable` beside fields that it fills."""
    if payload.from_template is None:
        return None
    template = get_template(payload.from_template)
    if clash := [name for name in FROM_A_TEMPLATE if getattr(payload, name) is not None]:
        raise Unsuitable(
            f"from_template fills {', '.join(clash)}; change them afterwards.",
            code="from_template_conflict",
        )
    return template


def _changes(payload: TeammateFields) -> JSON:
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


def _find(access: Access, teammate_id: int) -> Teammate:
    return lookup.get_teammate(access, teammate_id)


def _shown(access: Access, teammate_id: int, request: ApiRequest) -> JSON:
    found = activity.with_activity(Teammate.objects.visible_to(access).with_version())
    teammate = found.filter(pk=teammate_id).first()
    if teammate is None:
        raise NotFound("There is no such teammate.", code="teammates.not_found")
    return teammate_out(teammate, request)


def _find_to_edit(request: ApiRequest, teammate_id: int, user_id: str | None) -> Teammate:
    teammate = _find(request.auth.for_end_user(user_id), teammate_id)
    lookup.require_editor(request.auth, teammate)
    return teammate


def _shown_again(request: ApiRequest, teammate: Teammate) -> JSON:
    return _shown(request.auth, teammate.pk, request)


def _masked_url(teammate: Teammate, request: ApiRequest) -> str | None:
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
        "webhook_url": _masked_url(teammate, request),
        "last_active_at": iso(at_work.last_active_at),
        "active_run_count": at_work.active_run_count,
        "active_run_id": at_work.active_run_id,
        "group_id": None,
        "group_name": None,
        "can_manage": may_manage,
        "can_execute": access.may("data.runs.write"),
        "can_share": may_manage,
    }
