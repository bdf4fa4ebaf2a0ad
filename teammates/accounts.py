"""Organizations and people: founded, set up, registered, signed in."""

import re
import secrets
from functools import cache

from django.contrib.auth import authenticate
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from teammates import connections, roster
from teammates.access import Access, access_of_member
from teammates.errors import Conflict, Forbidden, Invalid, NotSignedIn
from teammates.keys import hash_secret
from teammates.models import EndUser, Membership, Organization, Role, User


def found_organization(
    *, name: str, require_end_user_id: bool = False, is_home: bool = False
) -> Organization:
    """Make an organization that can work at once: demo provider, model aliases, teammates."""
    with transaction.atomic():
        organization = Organization.objects.create(
            name=name, require_end_user_id=require_end_user_id, is_home=is_home
        )
        connections.add_built_in(organization)
        roster.add_built_in(organization)
    return organization


def first_organization() -> Organization:
    """The organization of this installation, made on the first start."""
    return Organization.objects.order_by("id").first() or found_organization(
        name="My organization", is_home=True
    )


def make_setup_token(organization: Organization) -> str | None:
    """A one-time token for the owner, or None once there is one. An earlier token dies."""
    if organization.memberships.exists():
        return None
    token = secrets.token_urlsafe(24)
    Organization.objects.filter(pk=organization.pk).update(setup_token_hash=hash_secret(token))
    return token


def organization_of_setup_token(token: str) -> Organization | None:
    if not token:
        return None
    return Organization.objects.filter(setup_token_hash=hash_secret(token)).first()


def set_up_owner(
    *, token: str, organization_name: str, email: str, password: str, timezone: str = "UTC"
) -> User:
    """Claim the installation. Raises `Forbidden` for a used token, `Invalid` for bad fields."""
    with transaction.atomic():
        organization = (
            Organization.objects.select_for_update()
            .filter(setup_token_hash=hash_secret(token or "-"))
            .first()
        )
        if organization is None:
            raise Forbidden("This set-up link was used already. Sign in instead.")
        organization.name = _checked_name(organization_name, field="organization_name")
        organization.timezone = timezone
        organization.setup_token_hash = ""
        organization.save(update_fields=["name", "timezone", "setup_token_hash"])
        user = _create_user(email=email, password=password)
        Membership.objects.create(organization=organization, user=user, role=Role.OWNER)
        # What the first start made was nobody's; it is the owner's now.
        organization.api_keys.filter(created_by=None).update(
            created_by=user, is_organizations=False
        )
        for made in (organization.threads, organization.runs):
            made.filter(created_by=None, end_user=None).update(created_by=user)
    return user


def register(
    *,
    email: str,
    password: str | None,
    username: str = "",
    name: str = "",
    require_end_user_id: bool = False,
) -> Access:
    """Sign up a person with an organization of their own.

    Raises `Conflict` for a taken e-mail or name, `Invalid` for a bad one or a weak password.
    """
    with transaction.atomic():
        user = _create_user(email=email, password=password, username=username, name=name)
        organization = found_organization(
            name=f"{user.display_name}'s organization", require_end_user_id=require_end_user_id
        )
        Membership.objects.create(organization=organization, user=user, role=Role.OWNER)
    return Access(organization=organization, role=Role.OWNER, user=user)


def sign_in(*, login: str, password: str) -> Access:
    """The access of e-mail (or user name) and password. Raises `NotSignedIn`."""
    if "@" not in login:
        login = (
            User.objects.filter(username__iexact=login).values_list("email", flat=True).first()
            or login
        )
    user = authenticate(username=login, password=password)
    if not isinstance(user, User):
        raise NotSignedIn("E-mail or password is wrong.", code="auth.invalid_credentials")
    access = access_of_member(user)
    if access is None:
        raise Forbidden("You are in no organization.", code="auth.no_account_membership")
    return access


def find_or_create_end_user(organization: Organization, external_id: str) -> EndUser:
    return EndUser.objects.get_or_create(organization=organization, external_id=external_id)[0]


def _create_user(*, email: str, password: str | None, username: str = "", name: str = "") -> User:
    email = email.strip()
    try:
        validate_email(email)
    except ValidationError:
        raise Invalid("email is not an e-mail address.") from None
    if username and not _user_name_pattern().fullmatch(username):
        raise Invalid("login must have 1 to 150 characters and no @.")
    if password is not None:
        check_password(password)
    try:
        with transaction.atomic():
            return User.objects.create_user(
                email=email, password=password, username=username, name=name.strip()[:150]
            )
    except IntegrityError:
        raise Conflict(
            "This e-mail address or name is taken; sign in instead.", code="auth.login_exists"
        ) from None


def check_password(password: str) -> None:
    """Raise `Invalid` for a password that is too short, too long or too common."""
    if len(password) > 1024:
        raise Invalid("password must have at most 1024 characters.")
    try:
        validate_password(password)
    except ValidationError as error:
        raise Invalid("password: " + " ".join(error.messages)) from None


def _checked_name(name: str, *, field: str) -> str:
    if not name.strip() or len(name.strip()) > 200:
        raise Invalid(f"{field} must have 1 to 200 characters.")
    return name.strip()


@cache
def _user_name_pattern() -> re.Pattern[str]:
    return re.compile(r"[^@\s]{1,150}")
