"""`/api/v1/auth`: the sessions of v2's clients and command line (contract v2 1.2).

What they call `api_key` is the session's token, a JWT.
"""

from typing import Annotated

from django.http import HttpRequest
from ninja import Router, Status
from pydantic import Field

from teammates.access import Access
from teammates.api.schemas import ApiRequest, Input, iso
from teammates.errors import Forbidden
from teammates.people import sessions, sign_in, verification
from teammates.types import JSON

router = Router(tags=["sessions"])


class SessionRegisterIn(Input):
    email: str
    password: str
    first_name: Annotated[str, Field(min_length=1, max_length=75)]
    last_name: Annotated[str, Field(max_length=75)] = ""


class SessionLoginIn(Input):
    email: str
    password: str


class RefreshIn(Input):
    refresh_token: str


@router.post("/auth/register", auth=None, response={201: JSON})
def register(request: HttpRequest, payload: SessionRegisterIn) -> Status[JSON]:
    """Sign up with an account of one's own."""
    access = sign_in.register(
        email=payload.email,
        password=payload.password,
        name=f"{payload.first_name} {payload.last_name}".strip(),
    )
    assert access.user is not None
    verification.welcome(access.user)
    return Status(201, tokens_out(sessions.open_session(access)) | {"user": user_out(access)})


@router.post("/auth/login", auth=None)
def login(request: HttpRequest, payload: SessionLoginIn) -> JSON:
    access = sign_in.sign_in(login=payload.email, password=payload.password)
    return tokens_out(sessions.open_session(access)) | {"user": user_out(access)}


@router.post("/auth/refresh", auth=None)
def refresh(request: HttpRequest, payload: RefreshIn) -> JSON:
    """New tokens; the old refresh token is used up."""
    return tokens_out(sessions.renew_session(payload.refresh_token)[1])


@router.get("/auth/me")
def me(request: ApiRequest) -> JSON:
    return {"user": user_out(request.auth)}


@router.post("/auth/logout")
def logout(request: ApiRequest) -> JSON:
    """End this session alone."""
    return {"success": sessions.end_session(request.auth)}


def tokens_out(tokens: sessions.Tokens) -> JSON:
    return {
        "api_key": tokens.access,
        "refresh_token": tokens.refresh,
        "access_expires_at": iso(tokens.access_ends),
        "refresh_expires_at": iso(tokens.refresh_ends),
    }


def user_out(access: Access) -> JSON:
    user = access.user
    if user is None:
        raise Forbidden("This key belongs to no person.", code="auth.forbidden")
    first, _, last = user.name.partition(" ")
    return {
        "id": user.pk,
        "email": user.email,
        "first_name": first or user.display_name,
        "last_name": last,
        "is_verified": user.email_verified_at is not None,
        "created_at": iso(user.created_at),
        "role": access.role,
        "organization": access.organization.name,
    }
