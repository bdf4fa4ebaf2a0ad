"""v2: teammates, which it also calls agents, and their templates (contract v2 2.2, 2.10)."""

from dataclasses import replace

from ninja import Router, Status

from runs.api.v2.shared import under_both_names
from runs.api.v2.teammate_shapes import (
    FROM_A_TEMPLATE,
    ResetIn,
    TeammateCreate,
    TeammateUpdate,
    changes_of_body,
    teammate_out,
)
from runs.queries import activity
from runs.tasks import staffing
from teammates.access import Access
from teammates.api.schemas import (
    ApiRequest,
    Limit,
    address_of,
    paged,
    whole,
)
from teammates.api.scopes import scoped
from teammates.api.v2_knowledge import document_out
from teammates.errors import Unsuitable
from teammates.knowledge import documents
from teammates.models import PromptProfile, Teammate
from teammates.people import end_users
from teammates.roster import channels, editing, lookup, webhook_tokens
from teammates.roster.prompt import PROFILES, standing_prompt
from teammates.roster.templates import CATALOG, TeammateTemplate, get_template
from teammates.types import JSON

router = Router(tags=["teammates"])
both = under_both_names(router)


# --- make, look, change -------------------------------------------------------------------------


@both("post", response={201: JSON})
def create_teammate(request: ApiRequest, payload: TeammateCreate) -> Status[JSON]:
    """A teammate, from its fields or from a template. With `webhook`, the answer has the live
    `webhook_url`, which is not shown again."""
    access: Access = request.auth
    access.require("data.runs.write")
    access.for_end_user(payload.user_id).require_end_user()
    template = _template_of(payload)
    changes = changes_of_body(payload)
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
    teammate = find_to_edit(request, teammate_id, user_id)
    editing.update_teammate(request.auth, teammate, **changes_of_body(payload))
    return _shown_again(request, teammate)


@both("delete", "/{teammate_id}", response={204: None})
def archive_teammate(
    request: ApiRequest, teammate_id: int, user_id: str | None = None
) -> Status[None]:
    """Archive; again is fine."""
    staffing.archive_teammate(request.auth, find_to_edit(request, teammate_id, user_id))
    return Status(204, None)


@both("post", "/{teammate_id}/disable")
def disable_teammate(request: ApiRequest, teammate_id: int, user_id: str | None = None) -> JSON:
    """Start nothing any more, schedules included."""
    teammate = find_to_edit(request, teammate_id, user_id)
    return _shown_again(request, staffing.set_enabled(request.auth, teammate, enabled=False))


@both("post", "/{teammate_id}/enable")
def enable_teammate(request: ApiRequest, teammate_id: int, user_id: str | None = None) -> JSON:
    """Work again, with the schedules that rested with it."""
    teammate = find_to_edit(request, teammate_id, user_id)
    return _shown_again(request, staffing.set_enabled(request.auth, teammate, enabled=True))


@both("post", "/{teammate_id}/unarchive")
def unarchive_teammate(request: ApiRequest, teammate_id: int, user_id: str | None = None) -> JSON:
    """Bring an archived teammate back, paused."""
    teammate = find_to_edit(request, teammate_id, user_id)
    return _shown_again(request, staffing.unarchive_teammate(request.auth, teammate))


@both("post", "/{teammate_id}/reset")
def reset_teammate(
    request: ApiRequest,
    teammate_id: int,
    payload: ResetIn | None = None,
    user_id: str | None = None,
) -> JSON:
    """Back to what its template says: the named fields, or all. [] if it has no template."""
    teammate = find_to_edit(request, teammate_id, user_id)
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


def _find(access: Access, teammate_id: int) -> Teammate:
    return lookup.get_teammate(access, teammate_id)


def _shown(access: Access, teammate_id: int, request: ApiRequest) -> JSON:
    found = activity.with_activity(Teammate.objects.visible_to(access).with_version())
    return teammate_out(lookup.pick(found, teammate_id), request)


def find_to_edit(request: ApiRequest, teammate_id: int, user_id: str | None) -> Teammate:
    teammate = _find(request.auth.for_end_user(user_id), teammate_id)
    lookup.require_editor(request.auth, teammate)
    return teammate


def _shown_again(request: ApiRequest, teammate: Teammate) -> JSON:
    return _shown(request.auth, teammate.pk, request)
