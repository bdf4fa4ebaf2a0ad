"""What people are called, made once."""

import re
from functools import cache

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.timezone import now

from config.compiled import Hole, compiled
from teammates.access import Access
from teammates.errors import Conflict, Invalid
from teammates.models import Membership, User
from teammates.people.passwords import check_password


def rename_user(access: Access, name: str) -> None:
    """Change what colleagues see instead of one's address. Raises `Forbidden`, `Invalid`."""
    access.require_unlimited()
    user = access.require_person()
    user.name = checked_name(name, field="name")
    user.save(update_fields=["name", "updated_at"])


def shows_first_steps(access: Access) -> bool:
    person = access.require_person()
    return bool(_newcomer.all(organization_id=access.organization.pk, person_id=person.pk))


@compiled
def _newcomer(organization_id: Hole, person_id: Hole) -> "QuerySet[Membership, int]":
    members = Membership.objects.filter(organization=organization_id, user=person_id)
    return members.filter(settled_in_at=None).values_list("pk", flat=True)


def hide_first_steps(access: Access) -> None:
    """Dismiss the list of first steps; again is fine. It stays in the person's menu."""
    mine = Membership.objects.filter(organization=access.organization, user=access.user)
    mine.filter(settled_in_at=None).update(settled_in_at=now())


def create_user(*, email: str, password: str | None, username: str = "", name: str = "") -> User:
    email = email.strip()
    try:
        validate_email(email)
    except ValidationError:
        raise Invalid("email is not an e-mail address.") from None
    if username and not _user_name_pattern().fullmatch(username):
        raise Invalid("login must have 1 to 150 characters and no @.")
    name = name.strip()[:150]
    if password is not None:
        check_password(password, User(email=email, username=username, name=name))
    try:
        with transaction.atomic():
            return User.objects.create_user(
                email=email, password=password, username=username, name=name
            )
    except IntegrityError:
        raise Conflict(
            "This e-mail address or name is taken; sign in instead.", code="auth.login_exists"
        ) from None


def checked_name(name: str, *, field: str) -> str:
    if not name.strip() or len(name.strip()) > 200:
        raise Invalid(f"{field} must have 1 to 200 characters.")
    return name.strip()


@cache
def _user_name_pattern() -> re.Pattern[str]:
    return re.compile(r"[^@\s]{1,150}")
