"""v1: sign-up, sign-in, me (contract v1 2.1, 2.2)."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Router, Status
from pydantic import Field

from teammates.api.schemas import ApiRequest, Input, iso
from teammates.errors import Forbidden, Invalid
from teammates.people import sessions, sign_in
from teammates.types import JSON

router = Router(tags=["auth"])
COOKIE = "muster_refresh_token"


class RegisterIn(Input):
    login: str = Field(max_length=256)
    password: str = Field(max_length=1024)
    email: str = Field(max_length=254)
    invite_code: str | None = None
    locale: str | None = None
    cf_turnstile_token: str | None = None


class LoginIn(Input):
    login: str = Field(max_length=256)
    password: str = Field(max_length=1024)
    cf_turnstile_token: str | None = None


@router.post("/auth/register", auth=None, response={201: JSON})
def register(request: HttpRequest, payload: RegisterIn, response: HttpResponse) -> Status[JSON]:
    """Sign up with an organization of one's own; the token works at once."""
    access = sign_in.register(
        email=payload.email, password=payload.password, username=payload.login
    )
    assert access.user is not None
    tokens = _tokens(sessions.open_session(access), response)
    return Status(201, {"user_id": str(access.user.uid), "warning": None} | tokens)


@router.post("/auth/login", auth=None)
def login(request: HttpRequest, payload: LoginIn, response: HttpResponse) -> JSON:
    access = sign_in.sign_in(login=payload.login, password=payload.password)
    return _tokens(sessions.open_session(access), response)


@router.post("/auth/refresh", auth=None)
def refresh(request: HttpRequest, response: HttpResponse) -> JSON:
    """A new access token for the refresh cookie, which is replaced."""
    secret = request.COOKIES.get(COOKIE)
    if not secret:
        raise Invalid(f"The cookie {COOKIE} is missing; sign in first.")
    return _tokens(sessions.renew_session(secret)[1], response)


@router.get("/me")
def me(request: ApiRequest) -> JSON:
    access = request.auth
    if access.user is None or access.api_key is not None:
        raise Forbidden("An API key has no person; sign in.", code="auth.forbidden")
    return {
        "id": str(access.user.uid),
        "username": access.user.username or access.user.display_name,
        "email": access.user.email,
        "email_verified": access.user.email_verified_at is not None,
        "email_verification_required": False,
        "created_at": iso(access.user.created_at),
        "org_id": str(access.organization.uid),
        "org_name": access.organization.name,
        "account_id": str(access.organization.uid),
        "account_name": access.organization.name,
        "role": access.role,
        "permissions": sorted(access.permissions),
    }


def _tokens(tokens: sessions.Tokens, response: HttpResponse) -> JSON:
    response.set_cookie(
        COOKIE,
        tokens.refresh,
        max_age=settings.REFRESH_TOKEN_SECONDS,
        path="/v1/auth",
        httponly=True,
        samesite="Lax",
        secure=settings.HTTPS,
    )
    return {"access_token": tokens.access, "token_type": "bearer"}
