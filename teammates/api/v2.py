"""v2: sign-up, keys, teammates (contract v2 1.2, 2.2, 2.7)."""

from typing import Annotated, Any, Literal

from django.conf import settings
from django.http import HttpRequest
from ninja import Router, Status
from pydantic import Field

from teammates import accounts, keys, roster
from teammates.access import Access
from teammates.api.schemas import ApiRequest, Input, iso, page
from teammates.errors import Forbidden
from teammates.models import APIKey, Teammate

router = Router()


# --- sign-up and keys ---------------------------------------------------------------------------


class SignupIn(Input):
    email: str
    first_name: str
    password: str | None = None
    last_name: str = ""
    product: Literal["api", "platform"] = "api"
    require_end_user_id: bool | None = None


class TokenIn(Input):
    email: str
    password: str


class KeyIn(Input):
    name: str
    expires_in_days: int | None = None


@router.post("/signup", auth=None, response={201: dict[str, Any]}, tags=["account"])
def signup(request: HttpRequest, payload: SignupIn) -> Any:
    """A new account with its default key. For products of others strict mode is on."""
    if not settings.REGISTRATION_OPEN:
        raise Forbidden("Registration is closed; ask for an invitation.", code="auth.forbidden")
    strict = payload.require_end_user_id
    access = accounts.register(
        email=payload.email,
        password=payload.password,
        name=f"{payload.first_name} {payload.last_name}".strip(),
        require_end_user_id=payload.product == "api" if strict is None else strict,
    )
    said = {
        "message": "Account created. Keep the key: it is not shown again.",
        "verification": "verified",
    }
    return Status(201, _default_key(access) | said)


@router.post("/token", auth=None, tags=["account"])
def token(request: HttpRequest, payload: TokenIn) -> dict[str, Any]:
    """A new default key for e-mail and password; the previous default key is dead."""
    access = accounts.sign_in(login=payload.email, password=payload.password)
    _require_default_key_rights(access)
    return _default_key(access) | {"message": "The previous default key no longer works."}


@router.get("/keys", tags=["keys"])
def default_key(request: ApiRequest) -> dict[str, Any]:
    return _default_key_state(request.auth)


@router.get("/keys/all", tags=["keys"])
def list_keys(request: ApiRequest) -> list[dict[str, Any]]:
    """The named keys, newest first."""
    request.auth.require("data.api_keys.manage")
    named = keys.visible_keys(request.auth).filter(is_default=False)
    return [_key_out(key) for key in named[:100]]


@router.post("/keys/rotate", tags=["keys"])
def rotate_default_key(request: ApiRequest) -> dict[str, Any]:
    _require_default_key_rights(request.auth)
    made, secret = keys.create_key(
        request.auth.organization, name="Default", by=request.auth.user, is_default=True
    )
    return {"api_key": secret, "prefix": made.prefix}


@router.post("/keys", response={201: dict[str, Any]}, tags=["keys"])
def create_key(request: ApiRequest, payload: KeyIn) -> Any:
    """A named key. Its secret is shown here and never again."""
    request.auth.require("data.api_keys.manage")
    key, secret = keys.create_key(
        request.auth.organization,
        name=payload.name,
        by=request.auth.user,
        expires_in_days=payload.expires_in_days,
    )
    return Status(201, _created_out(key, secret))


@router.delete("/keys", tags=["keys"])
def revoke_default_key(request: ApiRequest) -> dict[str, Any]:
    _require_default_key_rights(request.auth)
    for key in request.auth.organization.api_keys.filter(is_default=True, revoked_at=None):
        keys.revoke_key(key)
    return _default_key_state(request.auth)


@router.post("/keys/{key_id}/rotate", tags=["keys"])
def rotate_key(request: ApiRequest, key_id: int) -> dict[str, Any]:
    request.auth.require("data.api_keys.manage")
    found = keys.get_key(request.auth, pk=key_id, is_default=False)
    return _created_out(*keys.rotate_key(found))


@router.delete("/keys/{key_id}", tags=["keys"])
def revoke_key(request: ApiRequest, key_id: int) -> dict[str, Any]:
    request.auth.require("data.api_keys.manage")
    found = keys.get_key(request.auth, pk=key_id, is_default=False)
    return _key_out(keys.revoke_key(found))


def _require_default_key_rights(access: Access) -> None:
    access.require("data.api_keys.manage")
    if not access.is_admin:
        raise Forbidden("Only owners and admins change the default key.", code="auth.forbidden")


def _default_key(access: Access) -> dict[str, Any]:
    assert access.user is not None
    _, secret = keys.create_key(
        access.organization, name="Default", by=access.user, is_default=True
    )
    return {"api_key": secret, "email": access.user.email}


def _default_key_state(access: Access) -> dict[str, Any]:
    access.require("data.api_keys.manage")
    found = access.organization.api_keys.filter(is_default=True, revoked_at=None).first()
    return {"has_key": True, "prefix": found.prefix} if found else {"has_key": False}


def _created_out(key: APIKey, secret: str) -> dict[str, Any]:
    return {
        "id": key.pk, "name": key.name, "api_key": secret, "prefix": key.prefix,
        "expires_at": iso(key.expires_at),
    }  # fmt: skip


def _key_out(key: APIKey) -> dict[str, Any]:
    return {
        "id": key.pk,
        "name": key.name,
        "prefix": key.prefix,
        "created_at": iso(key.created_at),
        "active": key.is_valid,
        "last_used_at": iso(key.last_used_at),
        "expires_at": iso(key.expires_at),
    }


# --- teammates ----------------------------------------------------------------------------------


class TeammateFields(Input):
    name: str | None = None
    instructions: str | None = None
    role: str | None = None
    goals: str | None = None
    tools: list[str] | None = None
    metadata: dict[str, Any] | None = None
    allowed_senders: list[str] | None = None
    default_permission_mode: str | None = None
    model: str | None = None
    effort: str | None = None
    enable_memory: bool | None = None
    enable_history: bool | None = None
    enable_task_setup_tools: bool | None = None
    enable_feedback: bool | None = None
    disabled_builtin_tools: list[str] | None = None


class TeammateCreate(TeammateFields):
    user_id: str | None = None
    email_inbox: bool = False


# Our words for the wire's, where they differ.
WIRE = {
    "default_permission_mode": "permission_mode",
    "enable_memory": "memory",
    "enable_history": "history",
    "enable_task_setup_tools": "task_setup_tools",
    "enable_feedback": "feedback",
    "disabled_builtin_tools": "disabled_tools",
}
# null means: back to the default.
CLEARED: dict[str, Any] = {
    "model": "", "effort": "", "memory": None, "history": None, "task_setup_tools": None,
    "feedback": None, "instructions": "", "role": "", "goals": "", "tools": [],
    "disabled_tools": [],
}  # fmt: skip


@router.post("/agents", response={201: dict[str, Any]}, tags=["teammates"])
@router.post("/teammates", response={201: dict[str, Any]}, include_in_schema=False)
def create_teammate(request: ApiRequest, payload: TeammateCreate) -> Any:
    access: Access = request.auth
    access.require("data.runs.write")
    access.for_end_user(payload.user_id).require_end_user()
    end_user = None
    if payload.user_id is not None:
        end_user = accounts.find_or_create_end_user(access.organization, payload.user_id)
    teammate = roster.create_teammate(
        access.organization,
        by=access.user,
        end_user=end_user,
        email_inbox=payload.email_inbox,
        **_changes(payload, without={"user_id", "email_inbox"}),
    )
    return Status(201, teammate_out(teammate))


@router.get("/agents", tags=["teammates"])
@router.get("/teammates", include_in_schema=False)
def list_teammates(
    request: ApiRequest,
    user_id: str | None = None,
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    starting_after: int | None = None,
    include_archived: bool = False,
    fields: str | None = None,
) -> dict[str, Any]:
    """Newest first; archived ones only if asked for."""
    access = _scoped(request, user_id)
    teammates = Teammate.objects.visible_to(access).with_version()
    if not include_archived:
        teammates = teammates.current()
    if starting_after is not None:
        teammates = teammates.filter(pk__lt=starting_after)
    rows = list(teammates.order_by("-id")[: limit + 1])
    return page(rows, limit, [teammate_out(row) for row in rows])


@router.get("/agents/{teammate_id}", tags=["teammates"])
@router.get("/teammates/{teammate_id}", include_in_schema=False)
def get_teammate(
    request: ApiRequest, teammate_id: int, user_id: str | None = None
) -> dict[str, Any]:
    return teammate_out(_find(_scoped(request, user_id), teammate_id))


@router.patch("/agents/{teammate_id}", tags=["teammates"])
@router.patch("/teammates/{teammate_id}", include_in_schema=False)
def update_teammate(
    request: ApiRequest, teammate_id: int, payload: TeammateFields, user_id: str | None = None
) -> dict[str, Any]:
    """Change what is given; null clears. A change of what it is told is a new version."""
    teammate = _find(request.auth.for_end_user(user_id), teammate_id)
    roster.require_editor(request.auth, teammate)
    changed = roster.update_teammate(teammate, by=request.auth.user, **_changes(payload))
    return teammate_out(changed)


@router.delete("/agents/{teammate_id}", response={204: None}, tags=["teammates"])
@router.delete("/teammates/{teammate_id}", response={204: None}, include_in_schema=False)
def archive_teammate(request: ApiRequest, teammate_id: int, user_id: str | None = None) -> Any:
    """Archive; again is fine."""
    teammate = _find(request.auth.for_end_user(user_id), teammate_id)
    roster.require_editor(request.auth, teammate)
    roster.archive_teammate(teammate)
    return Status(204, None)


def _changes(payload: TeammateFields, without: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    """What the body says, in our words."""
    changes: dict[str, Any] = {}
    for wire in payload.model_fields_set - without:
        value, name = getattr(payload, wire), WIRE.get(wire, wire)
        if value is None:
            if name not in CLEARED:
                continue  # null leaves it
            value = CLEARED[name]
        changes[name] = value
    return changes


def _scoped(request: ApiRequest, user_id: str | None) -> Access:
    request.auth.require("data.personas.read")
    access = request.auth.for_end_user(user_id)
    if access.api_key:  # the strict mode lets sessions read
        access.require_end_user()
    return access


def _find(access: Access, teammate_id: int) -> Teammate:
    return roster.get_teammate(access, teammate_id)


def teammate_out(teammate: Teammate) -> dict[str, Any]:
    """A teammate with every key of contract v2 2.2."""
    version = teammate.current_version
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
        "disabled_builtin_tools": version.disabled_tools,
        "version": version.number,
        "status": teammate.status,
        "created_at": iso(teammate.created_at),
        "updated_at": iso(teammate.updated_at),
        "template_slug": None,
        "inbound_email_enabled": bool(teammate.inbox_name),
        "email_address": teammate.email_address,
        "fetchmail_enabled": False,
        "fetchmail_address": None,
        "webhook_enabled": False,
        "webhook_url": None,
        "visibility": "organization",
        "display_order": None,
        "prompt_profile": "platform",
    }
