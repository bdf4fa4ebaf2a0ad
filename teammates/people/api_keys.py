"""API keys: made, checked, revoked. Stored as hashes."""

import secrets
from datetime import datetime, timedelta
from typing import Any

from django.db import models, transaction
from django.db.models import OuterRef
from django.utils import timezone

from config.compiled import Hole, compiled
from teammates.access import SCOPES, Access, access_of_key, role_in
from teammates.access_cache import cache as access_cache
from teammates.errors import Conflict, Forbidden, Invalid, NotFound, NotSignedIn, TooMany
from teammates.fields import hash_secret
from teammates.models import APIKey, Organization, User
from teammates.people.sessions import access_of_token
from teammates.trust import audit

MAX_ACTIVE_KEYS = 50
V1, V2 = "al_", "m8_"
NOTED_EVERY = timedelta(minutes=1)
# What the first start prints lies in a terminal and a log.
FIRST_DAYS = 30
FIRST_SCOPES = sorted(set(SCOPES) - {"data.llm_credentials.manage"})


@audit.recorded("key.create")
def create_key(
    access: Access,
    *,
    name: str,
    expires_in_days: int | None = None,
    scopes: list[str] | None = None,
    prefix: str = V2,
) -> tuple[APIKey, str]:
    """Make a named key that acts as its maker; returns it with its secret, shown once.

    `scopes` limits what it may do; empty: as its maker. A key that makes one gives it no more time
    and no more rights than it has. Raises `Invalid`, `Forbidden`, `TooMany` above 50 active keys.
    """
    _may_make(access)
    if expires_in_days is not None and not 1 <= expires_in_days <= 3650:
        raise Invalid("expires_in_days must be 1 to 3650.")
    with transaction.atomic():
        organization = _locked(access.organization)
        active = organization.api_keys.filter(revoked_at=None, is_default=False)
        if active.count() >= MAX_ACTIVE_KEYS:
            raise TooMany(
                f"There are {MAX_ACTIVE_KEYS} active keys; revoke one first.",
                code="api_keys.limit_exceeded",
            )
        return _insert(
            organization,
            name=name,
            by=access.user,
            prefix=prefix,
            parent=access.api_key,
            expires_at=_earlier_end(access, expires_in_days),
            scopes=_narrowed(access, scopes),
        )


def create_first_key(organization: Organization) -> tuple[APIKey, str]:
    """The key that the first start prints: for trying out, limited in rights and in time."""
    return _insert(
        organization,
        name="First key",
        by=None,
        is_default=True,
        scopes=FIRST_SCOPES,
        expires_at=timezone.now() + timedelta(days=FIRST_DAYS),
    )


def create_sign_up_key(access: Access) -> tuple[APIKey, str]:
    """The default key of an account that was made just now, claimed or not."""
    return _insert(access.organization, name="Default", by=access.user, is_default=True)


@audit.recorded("key.renew")
def renew_default_key(access: Access) -> tuple[APIKey, str]:
    """A new secret for v2's default key, which acts as the asker from now on. Raises `Forbidden`.

    Through a key: with no more time and rights than that one has.
    """
    _may_make(access)
    _require_default_key_rights(access)
    with transaction.atomic():
        organization = _locked(access.organization)
        revoke_default_key(access)
        return _insert(
            organization,
            name="Default",
            by=access.user,
            is_default=True,
            expires_at=_earlier_end(access, None),
            scopes=_narrowed(access, None),
        )


@audit.recorded("key.revoke_default")
def revoke_default_key(access: Access) -> None:
    """End v2's default key; again is fine. Raises `Forbidden`."""
    _require_default_key_rights(access)
    for key in access.organization.api_keys.filter(is_default=True, revoked_at=None):
        _revoke(key)


@audit.recorded("key.rotate")
def rotate_key(access: Access, key: APIKey) -> tuple[APIKey, str]:
    """Give a named key a new secret; the old one stops working at once.

    Whoever has the secret acts as the key's maker, so it is for the maker alone; through a key, for
    that one and those it made. Raises `Forbidden`, `Conflict` if it is revoked.
    """
    _may_make(access)
    is_makers = access.user is not None and key.created_by_id == access.user.pk
    is_organizations = key.created_by_id is None and access.is_admin
    if not is_makers and not is_organizations:
        raise Forbidden("Only whoever made a key gets its new secret. Revoke it instead.")
    if access.api_key is not None and not _descends(key, access.api_key):
        raise Forbidden("A key renews itself and the keys that it made. Sign in for others.")
    secret = key.prefix[:3] + secrets.token_hex(32)
    changed = APIKey.objects.filter(pk=key.pk, revoked_at=None).update(
        hash=hash_secret(secret), prefix=secret[:12]
    )
    if not changed:
        raise Conflict("This key is revoked; create a new one.", code="api_keys.revoked")
    key.refresh_from_db()
    return key, secret


@audit.recorded("key.revoke")
def revoke_key(access: Access, key: APIKey) -> APIKey:
    """Revoke a key that the asker sees, with the keys that it made; again is fine."""
    access.require("data.api_keys.manage", key)
    with transaction.atomic():
        _revoke(key)
    key.refresh_from_db()
    return key


def _revoke(key: APIKey) -> None:
    """End a key and its descendants. A handful at most: each is made by a program by hand."""
    ended = [key.pk]
    while ended:
        APIKey.objects.filter(pk__in=ended, revoked_at=None).update(revoked_at=timezone.now())
        children = APIKey.objects.filter(parent__in=ended, revoked_at=None)
        ended = list(children.values_list("pk", flat=True))


def _descends(key: APIKey, ancestor: APIKey) -> bool:
    at: APIKey | None = key
    while at is not None and at.pk != ancestor.pk:
        at = at.parent
    return at is not None


def _may_make(access: Access) -> None:
    access.require("data.api_keys.manage")
    if access.user is not None and not access.user.has_usable_password():
        raise Forbidden(
            "This account is not claimed yet: open the link in the mail and set a password.",
            code="auth.account_unclaimed",
        )


def _require_default_key_rights(access: Access) -> None:
    access.require("data.api_keys.manage")
    if not access.is_admin:
        raise Forbidden("Only owners and admins change the default key.", code="auth.forbidden")


def _earlier_end(access: Access, days: int | None) -> datetime | None:
    """When a new key ends: as wished, and not after the key that makes it."""
    wished = timezone.now() + timedelta(days=days) if days else None
    parents = access.api_key.expires_at if access.api_key is not None else None
    return min((end for end in (wished, parents) if end), default=None)


def _narrowed(access: Access, scopes: list[str] | None) -> list[str]:
    """The scopes of a new key: as wished, and none that the asker has not."""
    wished = sorted(set(scopes or []))
    if unknown := [name for name in wished if name not in SCOPES]:
        raise Invalid(f"scopes: there is no {', '.join(unknown)}.", scopes=unknown)
    if missing := [name for name in wished if not access.may(name)]:
        raise Forbidden(
            f"You may not give {', '.join(missing)}: you do not have it yourself.",
            code="api_keys.scope_forbidden",
            missing=missing,
        )
    return wished or (access.api_key.scopes if access.api_key is not None else [])


def _locked(organization: Organization) -> Organization:
    """Its row is the lock of the cap, and of the default key."""
    return Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)


def _insert(
    organization: Organization, *, name: str, by: User | None, prefix: str = V2, **fields: Any
) -> tuple[APIKey, str]:
    if not name.strip() or len(name) > 200:
        raise Invalid("name must have 1 to 200 characters.")
    secret = prefix + secrets.token_hex(32)
    key = APIKey.objects.create(
        organization=organization,
        created_by=by,
        name=name.strip(),
        prefix=secret[:12],
        hash=hash_secret(secret),
        is_organizations=by is None,
        **fields,
    )
    return key, secret


def visible_keys(access: Access) -> models.QuerySet[APIKey]:
    """Admins see the organization's keys, members their own; newest first. Raises `Forbidden`."""
    access.require("data.api_keys.manage")
    keys = APIKey.objects.filter(organization=access.organization).select_related("created_by")
    if not access.is_admin:
        keys = keys.filter(created_by=access.user)
    return keys.order_by("-id")


def get_key(access: Access, **lookup: object) -> APIKey:
    """Raises `NotFound`."""
    found = visible_keys(access).filter(**lookup).first()
    if found is None:
        raise NotFound("There is no such key.", code="api_keys.not_found")
    return found


def access_of_bearer(credential: str) -> Access:
    """The access behind `Authorization: Bearer …`, a key or a session token.

    Raises `NotSignedIn`, whose code says what is wrong (contract v1 1.3).
    """
    if not credential.startswith((V1, V2)):
        return access_of_token(credential)
    given = hash_secret(credential)
    access = access_cache.get(given, lambda: _access_of_hash(given))
    assert access is not None
    assert access.api_key is not None
    _require_valid(access.api_key)  # a kept one may have expired meanwhile
    if _note_use(access.api_key):
        access_cache.drop(given)
    return access


@compiled
def _key_of_hash(hash: Hole) -> models.QuerySet[APIKey]:
    role = role_in(OuterRef("organization"), OuterRef("created_by"))
    keys = APIKey.objects.select_related("organization", "created_by")
    return keys.annotate(creators_role=role).filter(hash=hash)


def _access_of_hash(given: str) -> Access:
    key = _require_valid(_key_of_hash.first(hash=given))
    access = access_of_key(key, key.creators_role)  # type: ignore[attr-defined]  # annotated
    if access is None:
        raise NotSignedIn(
            "The person who made this key is no longer here.", code="auth.invalid_api_key"
        )
    return access


def _require_valid(key: APIKey | None) -> APIKey:
    if key is None or not key.is_valid:
        raise NotSignedIn("This API key is not valid.", code="auth.invalid_api_key")
    return key


def _note_use(key: APIKey) -> bool:
    """Whether it was written down: once a minute, however many requests a key makes."""
    now = timezone.now()
    if key.last_used_at is not None and now - key.last_used_at < NOTED_EVERY:
        return False
    APIKey.objects.filter(pk=key.pk).update(last_used_at=now)
    return True
