"""Organizations and people: founded, set up, registered, signed in."""

import re
import secrets
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils.timezone import now

from teammates import connections, end_users, mail, roster, sessions
from teammates.access import Access, access_of_member
from teammates.errors import Conflict, Forbidden, Invalid, NotFound, NotSignedIn, TooMany
from teammates.fields import hash_secret
from teammates.models import Membership, Organization, RetentionMode, Role, User

MOST_WRONG_PASSWORDS = 10  # in a row
LOCKED_FOR = timedelta(minutes=5)
PER_END_USER = (
    "per_end_user_run_limit", "per_end_user_cost_limit_cents", "per_end_user_rate_per_minute",
)  # fmt: skip


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
        user = create_user(email=email, password=password)
        user.email_verified_at = now()  # whoever has the link runs this machine
        user.save(update_fields=["email_verified_at"])
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
    """Sign up a person with an organization of their own. Strangers may where an operator says so,
    and as long as this installation has nobody.

    Raises `Forbidden`, `Conflict` for a taken e-mail or name, `Invalid` for a bad one or a weak
    password.
    """
    if not settings.REGISTRATION_OPEN and Membership.objects.exists():
        raise Forbidden(
            "Registration is closed here; ask for an invitation. Whoever runs Muster can open it "
            "with MUSTER_REGISTRATION_OPEN=true.",
            code="auth.forbidden",
        )
    with transaction.atomic():
        user = create_user(email=email, password=password, username=username, name=name)
        organization = found_organization(
            name=f"{user.display_name}'s organization", require_end_user_id=require_end_user_id
        )
        Membership.objects.create(organization=organization, user=user, role=Role.OWNER)
    return Access(organization=organization, role=Role.OWNER, user=user)


def sign_in(*, login: str, password: str) -> Access:
    """The access of e-mail (or user name) and password.

    Raises `NotSignedIn`, `TooMany` after many wrong passwords in a row.
    """
    if "@" not in login:
        login = (
            User.objects.filter(username__iexact=login).values_list("email", flat=True).first()
            or login
        )
    known = User.objects.filter(email=login.strip().lower()).first()
    if known is not None:
        user = _checked_by_password(known, password)
    else:
        make_password(password)  # as long as for a known one
        raise _wrong_password()
    access = access_of_member(user)
    if access is None:
        raise Forbidden("You are in no organization.", code="auth.no_account_membership")
    return access


def _checked_by_password(user: User, password: str) -> User:
    """The user, if the password is theirs. Ten wrong ones in a row lock the account for a while.

    The user's row is held: guesses at one account are made one by one.
    """
    with transaction.atomic():
        locked = User.objects.select_for_update(no_key=True).get(pk=user.pk)
        until = locked.locked_until
        left = max(0.0, (until - now()).total_seconds()) if until else 0.0
        is_right = not left and locked.is_active and locked.check_password(password)
        if is_right:
            locked.failed_sign_ins, locked.locked_until = 0, None
        elif not left:
            locked.failed_sign_ins += 1
            if locked.failed_sign_ins >= MOST_WRONG_PASSWORDS:
                locked.failed_sign_ins, locked.locked_until = 0, now() + LOCKED_FOR
        locked.save(update_fields=["failed_sign_ins", "locked_until"])
    if left:
        raise TooMany(
            f"Too many wrong passwords; try again in {int(left) // 60 + 1} minutes.",
            code="auth.locked", retry_after=int(left) + 1,
        )  # fmt: skip
    if not is_right:
        raise _wrong_password()
    return locked


def _wrong_password() -> NotSignedIn:
    return NotSignedIn("E-mail or password is wrong.", code="auth.invalid_credentials")


def rename_user(user: User, name: str) -> None:
    """What colleagues see instead of the address. Raises `Invalid`."""
    user.name = _checked_name(name, field="name")
    user.save(update_fields=["name", "updated_at"])


def change_password(user: User, *, current: str, new: str) -> User:
    """Give a person another password and end all their sessions; keys of programs stay.

    Raises `NotSignedIn` for a wrong current one, `Invalid` for a weak new one, `TooMany`.
    """
    check_password(new, field="new_password")
    user = _checked_by_password(user, current)
    with transaction.atomic():
        user.set_password(new)
        user.save(update_fields=["password", "updated_at"])
        sessions.end_all_sessions(user)
    return user


# --- verification -------------------------------------------------------------------------------


class _VerificationTokens(PasswordResetTokenGenerator):
    """Good once, and until the address or the password changes."""

    key_salt = "teammates.verification"

    def _make_hash_value(self, user: Any, timestamp: int) -> str:
        known = (user.pk, user.email, user.password, user.email_verified_at, user.session_version)
        return f"{known}{timestamp}"


def verification_link(user: User) -> str:
    """The path of the page that proves that the mail address is the user's."""
    token = _VerificationTokens().make_token(user)
    return reverse("teammates:verify", args=[f"{user.pk}-{token}"])


def send_verification(user: User) -> None:
    """Mail the link. Once verified, nothing is sent."""
    if user.email_verified_at is not None:
        return
    mail.send(user.email, "Confirm your e-mail address", "verify", {
        "user": user, "link": mail.public_url() + verification_link(user),
        "days": settings.PASSWORD_RESET_TIMEOUT // 86400,
        "needs_password": not user.has_usable_password(),
    })  # fmt: skip


def user_of_verification(token: str) -> User:
    """Whose address the link proves. Raises `NotFound` for a used, old or wrong link."""
    pk, _, rest = token.partition("-")
    is_number = pk.isascii() and pk.isdigit() and len(pk) < 19
    user = User.objects.filter(pk=int(pk) if is_number else 0, is_active=True).first()
    if user is None or not _VerificationTokens().check_token(user, rest):
        raise NotFound("This link is no longer valid. Ask for a new one.")
    return user


def verify(user: User, *, password: str | None = None) -> User:
    """The address is theirs. One without a password sets it now, and the keys that were made
    before, to set things up, no longer work. Raises `Invalid` for a weak password."""
    with transaction.atomic():
        if not user.has_usable_password():
            if password is None:
                raise Invalid("password is required to claim this account.")
            check_password(password)
            user.set_password(password)
            user.api_keys.filter(revoked_at=None).update(revoked_at=now())
        user.email_verified_at = user.email_verified_at or now()
        user.save(update_fields=["password", "email_verified_at", "updated_at"])
    return user


# --- first steps --------------------------------------------------------------------------------


def shows_first_steps(access: Access) -> bool:
    return _membership(access).filter(settled_in_at=None).exists()


def hide_first_steps(access: Access) -> None:
    """Put the newcomer's list away; again is fine. The menu of the person has it still."""
    _membership(access).filter(settled_in_at=None).update(settled_in_at=now())


def _membership(access: Access) -> QuerySet[Membership]:
    return Membership.objects.filter(organization=access.organization, user=access.user)


# --- settings -----------------------------------------------------------------------------------


def settings_of(access: Access) -> Organization:
    access.require("data.runs.read")
    return access.organization


def update_settings(access: Access, **changes: Any) -> Organization:
    """Change settings of the organization, by the names of its fields. Raises `Invalid`."""
    access.require("org.settings.manage")
    for name in PER_END_USER:
        least = 1 if name.endswith("per_minute") else 0
        end_users.check_limit(name, changes.get(name), least=least)
    if changes.get("retention_mode", "standard") not in RetentionMode.values:
        raise Invalid(f"retention_mode must be one of {', '.join(RetentionMode.values)}.")
    organization = access.organization
    mode = changes.get("retention_mode", organization.retention_mode)
    if mode != organization.retention_mode:  # what was said before is not touched
        changes["metadata_only_since"] = now() if mode == RetentionMode.METADATA_ONLY else None
    for name, value in changes.items():
        setattr(organization, name, value)
    organization.save(update_fields=[*changes, "updated_at"])
    return organization


def create_user(*, email: str, password: str | None, username: str = "", name: str = "") -> User:
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


def check_password(password: str, *, field: str = "password") -> None:
    """Raise `Invalid` for a password that is too short, too long or too common."""
    if len(password) > 1024:
        raise Invalid(f"{field} must have at most 1024 characters.")
    try:
        validate_password(password)
    except ValidationError as error:
        raise Invalid(f"{field}: " + " ".join(error.messages)) from None


def _checked_name(name: str, *, field: str) -> str:
    if not name.strip() or len(name.strip()) > 200:
        raise Invalid(f"{field} must have 1 to 200 characters.")
    return name.strip()


@cache
def _user_name_pattern() -> re.Pattern[str]:
    return re.compile(r"[^@\s]{1,150}")
