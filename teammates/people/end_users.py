"""End users: the organization's own customers, their profiles and their limits.

An end user is known from the first time that a request names one. Deleting the profile leaves the
row: what the end user has refers to it, and the next request that names it makes a new profile.
"""

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from teammates.access import Access, check_end_user_id
from teammates.errors import Conflict, Invalid, NotFound
from teammates.models import EndUser, Organization
from teammates.trust import audit
from teammates.types import JSON

LIMITS = {"run_limit": 0, "cost_limit_cents": 0, "rate_per_minute": 1}  # and their least values
TEXTS = {"name": 255, "email": 254, "company": 255}  # and their longest
HIGHEST = 2**31 - 1


def find_or_create(access: Access, external_id: str) -> EndUser:
    """The end user of that name, with a profile from now on: what is made or started for them is
    theirs. Raises `Forbidden`, `Invalid` for a bad name."""
    access.require("data.end_users.manage")
    return _find_or_create(access.organization, external_id)[0]


def _find_or_create(organization: Organization, external_id: str) -> tuple[EndUser, bool]:
    """The same, and whether the profile is new: of two at once, one made it."""
    check_end_user_id(external_id)
    found, is_new = EndUser.objects.get_or_create(
        organization=organization, external_id=external_id
    )
    if found.removed_at is not None:
        removed = EndUser.objects.filter(pk=found.pk, removed_at__isnull=False)
        is_new, found.removed_at = bool(removed.update(removed_at=None)), None
    return found, is_new


@audit.recorded("user.create")
def create_end_user(access: Access, external_id: str, **profile: Any) -> EndUser:
    """Make a profile. Raises `Invalid`, `Conflict` if there is one, made by hand or by use."""
    access.require("data.end_users.manage")
    fields = _checked(access, profile)
    with transaction.atomic():
        found, is_new = _find_or_create(access.organization, external_id)
        if not is_new:
            raise Conflict(f"There is an end user {external_id!r} already.", code="users.duplicate")
        return _saved(found, fields)


@audit.recorded("user.update")
def update_end_user(access: Access, end_user: EndUser, **changes: Any) -> EndUser:
    """Change what is given; None clears. Raises `Invalid`."""
    access.require("data.end_users.manage", end_user)
    return _saved(end_user, _checked(access, changes))


@audit.recorded("user.delete")
def remove_profile(access: Access, end_user: EndUser) -> None:
    """Forget who an end user is; their runs, memories, teammates and limits stay."""
    access.require("data.end_users.manage", end_user)
    blank: JSON = dict.fromkeys(TEXTS, "") | {"metadata": None}
    _saved(end_user, blank | {"removed_at": timezone.now()})


def get_end_user(access: Access, external_id: str) -> EndUser:
    """Raises `NotFound`."""
    found: EndUser | None = list_end_users(access).filter(external_id=external_id).first()
    if found is None:
        raise NotFound("There is no such end user.", code="users.not_found")
    return found


def list_end_users(access: Access) -> "QuerySet[EndUser]":
    """The organization's end users who have a profile, newest first."""
    return known(access).filter(removed_at=None).order_by("-id")


def known(access: Access) -> "QuerySet[EndUser]":
    """The same, and those whose profile was deleted: what they have stays until it is erased."""
    access.require("data.end_users.manage")
    return EndUser.objects.filter(organization=access.organization)


def _saved(end_user: EndUser, fields: JSON) -> EndUser:
    for name, value in fields.items():
        setattr(end_user, name, value)
    end_user.save(update_fields=[*fields, "updated_at"])
    return end_user


def _checked(access: Access, fields: JSON) -> JSON:
    checked = dict(fields)
    if LIMITS.keys() & checked.keys():  # whoever sets the account's limits sets these
        access.require("org.settings.manage")
    for name, longest in TEXTS.items():
        if name in checked:
            checked[name] = (checked[name] or "").strip()
            if len(checked[name]) > longest:
                raise Invalid(f"{name} must have at most {longest} characters.")
    for name, least in LIMITS.items():
        check_limit(name, checked.get(name), least=least)
    return checked


def check_limit(name: str, value: int | None, *, least: int) -> None:
    """Raise `Invalid` unless `value` is None or at least `least`."""
    if value is not None and not least <= value <= HIGHEST:
        raise Invalid(f"{name} must be null, or {least} to {HIGHEST}.")
