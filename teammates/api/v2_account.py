"""v2: sign-up, keys, settings, sessions, end users, the audit log (contract v2 1.2, 2.4, 2.7)."""

from typing import Annotated, Literal

from django.http import HttpRequest
from ninja import Router, Status
from pydantic import Field

from teammates.access import Access
from teammates.api.schemas import ApiRequest, Input, Limit, iso, paged
from teammates.errors import Forbidden
from teammates.models import APIKey, AuditEntry, EndUser, Organization
from teammates.people import (
    api_keys,
    end_users,
    organizations,
    passwords,
    sessions,
    sign_in,
    verification,
)
from teammates.trust import audit
from teammates.types import JSON

router = Router()


# --- sign-up and keys ---------------------------------------------------------------------------


class SignupIn(Input):
    email: str
    first_name: Annotated[str, Field(min_length=1, max_length=75)]
    password: str | None = None
    last_name: Annotated[str, Field(max_length=75)] = ""
    product: Literal["api", "platform"] = "api"
    require_end_user_id: bool | None = None


class TokenIn(Input):
    email: str
    password: str


class KeyIn(Input):
    name: str
    expires_in_days: int | None = None
    scopes: list[str] | None = None


@router.post("/signup", auth=None, response={201: JSON}, tags=["account"])
def signup(request: HttpRequest, payload: SignupIn) -> Status[JSON]:
    """A new account with its default key. For products of others strict mode is on."""
    strict = payload.require_end_user_id
    access = sign_in.register(
        email=payload.email,
        password=payload.password,
        name=f"{payload.first_name} {payload.last_name}".strip(),
        require_end_user_id=payload.product == "api" if strict is None else strict,
    )
    user = access.require_person()
    verification.welcome(user)
    made = {"api_key": api_keys.create_sign_up_key(access)[1], "email": user.email}
    said = (
        "Account created. Keep the key: it is not shown again. A mail asks to confirm the address"
    )
    claim = "" if user.has_usable_password() else " and to set a password; until then the key is "
    until = "for setting up only" if claim else ""
    return Status(201, made | {"message": f"{said}{claim}{until}.", "verification": "pending"})


@router.post("/token", auth=None, tags=["account"])
def token(request: HttpRequest, payload: TokenIn) -> JSON:
    """A new default key for e-mail and password; the previous default key is dead."""
    access = sign_in.sign_in(login=payload.email, password=payload.password)
    return {
        "api_key": api_keys.renew_default_key(access)[1],
        "email": access.require_person().email,
        "message": "The previous default key no longer works.",
    }


@router.post("/verify/resend", tags=["account"])
def resend_verification(request: ApiRequest) -> JSON:
    """Mail the link that confirms the address once more."""
    verification.send_verification(request.auth.require_person())
    return {"message": "Verification email sent."}


@router.get("/verify/status", tags=["account"])
def verification_status(request: ApiRequest) -> JSON:
    return {"is_verified": request.auth.require_person().email_verified_at is not None}


@router.get("/keys", tags=["keys"])
def default_key(request: ApiRequest) -> JSON:
    return _default_key_state(request.auth)


@router.get("/keys/all", tags=["keys"])
def list_keys(request: ApiRequest) -> list[JSON]:
    """The named keys, newest first."""
    named = api_keys.visible_keys(request.auth).filter(is_default=False)
    return [_key_out(key) for key in named[:100]]


@router.post("/keys/rotate", tags=["keys"])
def rotate_default_key(request: ApiRequest) -> JSON:
    made, secret = api_keys.renew_default_key(request.auth)
    return {"api_key": secret, "prefix": made.prefix}


@router.post("/keys", response={201: JSON}, tags=["keys"])
def create_key(request: ApiRequest, payload: KeyIn) -> Status[JSON]:
    """A named key. Its secret is shown here and never again."""
    key, secret = api_keys.create_key(
        request.auth,
        name=payload.name,
        expires_in_days=payload.expires_in_days,
        scopes=payload.scopes,
    )
    return Status(201, _created_out(key, secret))


@router.delete("/keys", tags=["keys"])
def revoke_default_key(request: ApiRequest) -> JSON:
    api_keys.revoke_default_key(request.auth)
    return _default_key_state(request.auth)


@router.post("/keys/{key_id}/rotate", tags=["keys"])
def rotate_key(request: ApiRequest, key_id: int) -> JSON:
    found = api_keys.get_key(request.auth, pk=key_id, is_default=False)
    return _created_out(*api_keys.rotate_key(request.auth, found))


@router.delete("/keys/{key_id}", tags=["keys"])
def revoke_key(request: ApiRequest, key_id: int) -> JSON:
    found = api_keys.get_key(request.auth, pk=key_id, is_default=False)
    return _key_out(api_keys.revoke_key(request.auth, found))


def _default_key_state(access: Access) -> JSON:
    access.require("data.api_keys.manage")
    found = access.organization.api_keys.filter(is_default=True, revoked_at=None).first()
    return {"has_key": True, "prefix": found.prefix} if found else {"has_key": False}


def _created_out(key: APIKey, secret: str) -> JSON:
    return {
        "id": key.pk,
        "name": key.name,
        "api_key": secret,
        "prefix": key.prefix,
        "expires_at": iso(key.expires_at),
        "scopes": key.scopes,
    }


def _key_out(key: APIKey) -> JSON:
    return {
        "id": key.pk,
        "name": key.name,
        "prefix": key.prefix,
        "created_at": iso(key.created_at),
        "active": key.is_valid,
        "last_used_at": iso(key.last_used_at),
        "expires_at": iso(key.expires_at),
        "scopes": key.scopes,
    }


# --- settings -----------------------------------------------------------------------------------


class SettingsIn(Input):
    per_end_user_run_limit: int | None = None
    per_end_user_cost_limit_cents: int | None = None
    per_end_user_rate_per_minute: int | None = None
    retention_mode: str | None = None
    require_end_user_id: bool | None = None
    approval_email_enabled: bool | None = None
    approval_slack_enabled: bool | None = None
    result_email_enabled: bool | None = None
    result_slack_enabled: bool | None = None


@router.get("/settings", tags=["settings"])
def get_settings(request: ApiRequest) -> JSON:
    return settings_out(organizations.settings_of(request.auth))


@router.patch("/settings", tags=["settings"])
def update_settings(request: ApiRequest, payload: SettingsIn) -> JSON:
    """Change what is given; null clears a limit."""
    changes = {
        name: getattr(payload, name)
        for name in payload.model_fields_set
        if name in organizations.PER_END_USER or getattr(payload, name) is not None
    }
    return settings_out(organizations.update_settings(request.auth, **changes))


def settings_out(organization: Organization) -> JSON:
    return {name: getattr(organization, name) for name in SettingsIn.model_fields}


# --- password and sessions ----------------------------------------------------------------------


class PasswordIn(Input):
    current_password: str
    new_password: str


@router.post("/account/password", tags=["account"])
def change_password(request: ApiRequest, payload: PasswordIn) -> JSON:
    """Ends every session of the person; keys keep working."""
    user = passwords.change_password(
        request.auth, current=payload.current_password, new=payload.new_password
    )
    request.auth.user.refresh_from_db()  # type: ignore[union-attr]
    tokens = sessions.open_session(Access(request.auth.organization, request.auth.role, user))
    return {"access_token": tokens.access, "refresh_token": tokens.refresh}


@router.post("/account/sessions/revoke", tags=["account"])
def revoke_sessions(request: ApiRequest) -> JSON:
    """Sign the person out everywhere. A key may not."""
    if request.auth.api_key is not None:
        raise Forbidden("An API key cannot sign people out; sign in.", code="auth.forbidden")
    sessions.end_all_sessions(request.auth.require_person())
    return {"status": "revoked"}


# --- end users ----------------------------------------------------------------------------------


class EndUserFields(Input):
    name: str | None = None
    email: str | None = None
    company: str | None = None
    metadata: JSON | None = None
    run_limit: int | None = None
    cost_limit_cents: int | None = None
    rate_per_minute: int | None = None


class EndUserIn(EndUserFields):
    user_id: str


@router.post("/users", response={201: JSON}, tags=["users"])
def create_end_user(request: ApiRequest, payload: EndUserIn) -> Status[JSON]:
    given = payload.dict(exclude={"user_id"}, exclude_none=True)
    made = end_users.create_end_user(request.auth, payload.user_id, **given)
    return Status(201, end_user_out(made))


@router.get("/users", tags=["users"])
def list_end_users(
    request: ApiRequest, limit: Limit = 20, starting_after: int | None = None
) -> JSON:
    return paged(end_users.list_end_users(request.auth), limit, starting_after, end_user_out)


@router.get("/users/{user_id}", tags=["users"])
def get_end_user(request: ApiRequest, user_id: str) -> JSON:
    return end_user_out(end_users.get_end_user(request.auth, user_id))


@router.patch("/users/{user_id}", tags=["users"])
def update_end_user(request: ApiRequest, user_id: str, payload: EndUserFields) -> JSON:
    """Change what is given; metadata is replaced, null clears."""
    found = end_users.get_end_user(request.auth, user_id)
    given = {name: getattr(payload, name) for name in payload.model_fields_set}
    return end_user_out(end_users.update_end_user(request.auth, found, **given))


@router.delete("/users/{user_id}", response={204: None}, tags=["users"])
def delete_end_user(request: ApiRequest, user_id: str) -> Status[None]:
    """Forget the profile; what the end user has stays."""
    end_users.remove_profile(request.auth, end_users.get_end_user(request.auth, user_id))
    return Status(204, None)


def end_user_out(end_user: EndUser) -> JSON:
    return {
        "id": end_user.pk,
        "user_id": end_user.external_id,
        "name": end_user.name or None,
        "email": end_user.email or None,
        "company": end_user.company or None,
        "metadata": end_user.metadata,
        "created_at": iso(end_user.created_at),
        "updated_at": iso(end_user.updated_at),
        "run_limit": end_user.run_limit,
        "cost_limit_cents": end_user.cost_limit_cents,
        "rate_per_minute": end_user.rate_per_minute,
    }


# --- audit log ----------------------------------------------------------------------------------


@router.get("/audit-logs", tags=["audit"])
def list_audit_logs(
    request: ApiRequest,
    action: str | None = None,
    resource_type: str | None = None,
    method: str | None = None,
    status_code: int | None = None,
    auth: str = "all",
    limit: Limit = 20,
    starting_after: int | None = None,
) -> JSON:
    """Every request to this API, newest first: of keys (`api_key`), of sessions (`dashboard`)."""
    entries = audit.list_entries(
        request.auth,
        auth=auth,
        only_requests=True,
        action=action,
        resource_type=resource_type,
        method=method and method.upper(),
        status=status_code,
    )
    return paged(entries, limit, starting_after, audit_out)


def audit_out(entry: AuditEntry) -> JSON:
    return {
        "id": entry.pk,
        "method": entry.method,
        "path": entry.path,
        "status_code": entry.status,
        "duration_ms": entry.duration_ms,
        "action": entry.action or None,
        "resource_type": entry.resource_type or None,
        "resource_id": entry.resource_id or None,
        "api_key_prefix": entry.key_prefix or None,
        "created_at": iso(entry.created_at),
    }
