"""Sessions of programs: short access tokens, renewed by a secret that works once.

The sessions of browsers are Django's. Both die with the user's `session_version`.
"""

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import jwt
from django.conf import settings
from django.core.signing import BadSignature, Signer
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from teammates.access import Access, access_of_member
from teammates.access_cache import cache as access_cache
from teammates.errors import NotSignedIn
from teammates.fields import hash_secret
from teammates.models import RefreshToken, User
from teammates.types import JSON

# Two requests of one program that renew at once, or one whose answer got lost, are no theft.
AT_ONCE = timedelta(seconds=10)
_signer = Signer(salt="teammates.sessions")


@dataclass(frozen=True)
class Tokens:
    """What a program holds of a session. The access token is a JWT, opaque to clients."""

    access: str
    access_ends: datetime
    refresh: str
    refresh_ends: datetime


def open_session(access: Access) -> Tokens:
    """Sign a person's program in."""
    assert access.user is not None
    with transaction.atomic():
        session = RefreshToken.objects.create(
            user=access.user,
            organization=access.organization,
            expires_at=_end(),
            hash=hash_secret(secrets.token_urlsafe()),  # until its number is known
        )
        secret = _new_secret(session)
        session.hash = hash_secret(secret)
        session.save(update_fields=["hash"])
    return _tokens(access, session, secret)


def renew_session(secret: str) -> tuple[Access, Tokens]:
    """Replace the secret of a session; of two at once, one wins. Raises `NotSignedIn`.

    A secret that was replaced, but for one just now, ends its session: one of two who have it is a
    thief.
    """
    given = hash_secret(secret)
    with transaction.atomic():
        session = (
            RefreshToken.objects.select_for_update(of=("self",))
            .filter(hash=given, expires_at__gt=timezone.now())
            .select_related("user", "organization")
            .first()
        )
        access = _access_of_session(session) if session else None
        if session is not None and access is not None:
            renewed, session.expires_at = _new_secret(session), _end()
            session.hash, session.used_hash = hash_secret(renewed), given
            session.renewed_at = timezone.now()
            session.save(update_fields=["hash", "used_hash", "renewed_at", "expires_at"])
    if session is None or access is None:
        replaced = RefreshToken.objects.filter(pk=_session_of(secret)).exclude(hash=given)
        just_now = {"used_hash": given, "renewed_at__gte": timezone.now() - AT_ONCE}
        replaced.exclude(**just_now).delete()
        raise NotSignedIn("Sign in again.", code="auth.invalid_token")
    return access, _tokens(access, session, renewed)


def _access_of_session(session: RefreshToken) -> Access | None:
    uid = str(session.organization.uid) if session.organization else None
    return access_of_member(session.user, uid)


def end_session(access: Access) -> bool:
    """Sign this one session out; whether it was there."""
    return bool(RefreshToken.objects.filter(pk=access.session_id or 0).delete()[0])


def end_all_sessions(user: User) -> None:
    """Sign a person out of every browser and program. Keys of programs stay."""
    User.objects.filter(pk=user.pk).update(session_version=F("session_version") + 1)
    RefreshToken.objects.filter(user=user).delete()
    user.refresh_from_db()


def access_of_token(token: str) -> Access:
    """The access of a session's token. Raises `NotSignedIn`, whose code says what is wrong."""
    try:
        claims = jwt.decode(
            token, settings.SECRET_KEY, algorithms=["HS256"], options={"verify_iat": False}
        )
    except jwt.ExpiredSignatureError:
        raise NotSignedIn("The token has expired.", code="auth.token_expired") from None
    except jwt.InvalidTokenError:
        raise NotSignedIn("The token is not valid.", code="auth.invalid_token") from None
    access = access_cache.get(hash_secret(token), lambda: _access_of_claims(claims))
    assert access is not None
    return access


def _access_of_claims(claims: JSON) -> Access:
    user = User.objects.filter(uid=str(claims.get("sub")), is_active=True).first()
    if user is None:
        raise NotSignedIn("The user is gone.", code="auth.user_not_found")
    session_id = int(claims.get("sid") or 0)
    is_open = RefreshToken.objects.filter(pk=session_id, user=user).exists()
    if claims.get("ver") != user.session_version or not is_open:
        raise NotSignedIn("The token was revoked.", code="auth.invalid_token")
    access = access_of_member(user, claims.get("account"))
    if access is None or claims.get("typ") != "access":
        raise NotSignedIn("The user is in no organization.", code="auth.no_account_membership")
    return replace(access, session_id=session_id)


def _tokens(access: Access, session: RefreshToken, secret: str) -> Tokens:
    assert access.user is not None
    now = timezone.now()
    ends = now + timedelta(seconds=settings.ACCESS_TOKEN_SECONDS)
    claims = {
        "sub": str(access.user.uid),
        "sid": session.pk,
        "typ": "access",
        "iat": now.timestamp(),
        "exp": ends,
        "account": str(access.organization.uid),
        "role": access.role,
        "ver": access.user.session_version,
    }
    token = jwt.encode(claims, settings.SECRET_KEY, algorithm="HS256")
    return Tokens(token, ends, secret, session.expires_at)


def _new_secret(session: RefreshToken) -> str:
    """Signed, so that nobody but who once held a secret of a session can name the session."""
    return _signer.sign(f"{session.pk}.{secrets.token_urlsafe(32)}")


def _session_of(secret: str) -> int:
    """The number of the session that a secret is or was of; 0 for what we never gave out."""
    try:
        return int(_signer.unsign(secret).partition(".")[0])
    except (BadSignature, ValueError):
        return 0


def _end() -> datetime:
    return timezone.now() + timedelta(seconds=settings.REFRESH_TOKEN_SECONDS)
