"""API keys: made, checked, revoked. Stored as hashes."""

import secrets
from datetime import timedelta

from django.db import models, transaction
from django.db.models import OuterRef
from django.utils import timezone

from teammates.access import Access, access_of_key, role_in
from teammates.errors import Conflict, Invalid, NotFound, NotSignedIn, TooMany
from teammates.fields import hash_secret
from teammates.models import APIKey, Organization, User
from teammates.sessions import access_of_token

MAX_ACTIVE_KEYS = 50
V1, V2 = "al_", "m8_"


def create_key(
    organization: Organization,
    *,
    name: str,
    by: User | None,
    is_default: bool = False,
    expires_in_days: int | None = None,
    prefix: str = V2,
) -> tuple[APIKey, str]:
    """Make a key and return it with its secret, which is never shown again.

    Raises `Invalid` for a blank name, `TooMany` above 50 active keys.
    """
    if not name.strip() or len(name) > 200:
        raise Invalid("name must have 1 to 200 characters.")
    if expires_in_days is not None and not 1 <= expires_in_days <= 3650:
        raise Invalid("expires_in_days must be 1 to 3650.")
    secret = prefix + secrets.token_hex(32)
    with transaction.atomic():
        # The organization's row is the lock of the cap.
        Organization.objects.select_for_update().get(pk=organization.pk)
        active = organization.api_keys.filter(revoked_at=None, is_default=False)
        if not is_default and active.count() >= MAX_ACTIVE_KEYS:
            raise TooMany(
                f"There are {MAX_ACTIVE_KEYS} active keys; revoke one first.",
                code="api_keys.limit_exceeded",
            )
        if is_default:
            organization.api_keys.filter(is_default=True, revoked_at=None).update(
                revoked_at=timezone.now()
            )
        key = APIKey.objects.create(
            organization=organization,
            created_by=by,
            name=name.strip(),
            prefix=secret[:12],
            hash=hash_secret(secret),
            is_default=is_default,
            is_organizations=by is None,
            expires_at=timezone.now() + timedelta(days=expires_in_days)
            if expires_in_days
            else None,
        )
    return key, secret


def rotate_key(key: APIKey) -> tuple[APIKey, str]:
    """Give a named key a new secret; the old one is dead at once. Raises `Conflict` if revoked."""
    secret = key.prefix[:3] + secrets.token_hex(32)
    changed = APIKey.objects.filter(pk=key.pk, revoked_at=None).update(
        hash=hash_secret(secret), prefix=secret[:12]
    )
    if not changed:
        raise Conflict("This key is revoked; create a new one.", code="api_keys.revoked")
    key.refresh_from_db()
    return key, secret


def revoke_key(key: APIKey) -> APIKey:
    """Revoke a key; again is fine."""
    APIKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
    key.refresh_from_db()
    return key


def visible_keys(access: Access) -> models.QuerySet[APIKey]:
    """Admins see the organization's keys, members their own; newest first."""
    keys = APIKey.objects.filter(organization=access.organization).select_related("created_by")
    if not access.is_admin:
        keys = keys.filter(created_by=access.user)
    return keys.order_by("-id")


def get_key(access: Access, **lookup: object) -> APIKey:
    found = visible_keys(access).filter(**lookup).first()
    if found is None:
        raise NotFound("There is no such key.", code="api_keys.not_found")
    return found


def access_of_bearer(credential: str) -> Access:
    """The access behind `Authorization: Bearer …`, a key or a session token.

    Raises `NotSignedIn`, whose code says what is wrong (contract v1 1.3).
    """
    if credential.startswith((V1, V2)):
        key = (
            APIKey.objects.select_related("organization", "created_by")
            .annotate(creators_role=role_in(OuterRef("organization"), OuterRef("created_by")))
            .filter(hash=hash_secret(credential))
            .first()
        )
        if key is None or not key.is_valid:
            raise NotSignedIn("This API key is not valid.", code="auth.invalid_api_key")
        access = access_of_key(key, key.creators_role)
        if access is None:
            raise NotSignedIn(
                "The person who made this key is no longer here.", code="auth.invalid_api_key"
            )
        _note_use(key)
        return access
    return access_of_token(credential)


def _note_use(key: APIKey) -> None:
    """At most one write a minute, however many requests a key makes."""
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at > timedelta(minutes=1):
        APIKey.objects.filter(pk=key.pk).update(last_used_at=now)
