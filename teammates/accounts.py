"""Organizations and people: founded, set up, registered, signed in."""

import re
import secrets
from contextlib import suppress
from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils.timezone import now

from teammates import end_users, mail, sessions
from teammates.access import Access, access_of_member
from teammates.errors import Conflict, Forbidden, Invalid, NotFound, NotSignedIn, TooMany
from teammates.fields import hash_secret
from teammates.llm import catalog
from teammates.models import Membership, Organization, RetentionMode, Role, User
from teammates.roster import editing
from teammates.trust import audit, client, limits

RESET_LINK_HOURS = 2
# Runs at work at once: of the installation's own organization, and of one that signed up here.
MOST_RUNNING, GUESTS_RUNNING = 100, 25
MOST_SHOWN = 20  # of a kind, to whoever claims an account
# Hashing a password takes a core for a moment: some threads stay free for everybody else.
_hashing = limits.Room("people sign in", max(1, settings.REQUEST_THREADS // 2))
PER_END_USER = (
    "per_end_user_run_limit", "per_end_user_cost_limit_cents", "per_end_user_rate_per_minute",
)  # fmt: skip


def found_organization(
    *, name: str, require_end_user_id: bool = False, is_home: bool = False
) -> Organization:
    """Make an organization that can work at once: demo provider, model aliases, teammates."""
    with transaction.atomic():
        organization = Organization.objects.create(
            name=name, require_end_user_id=require_end_user_id, is_home=is_home,
            max_running=MOST_RUNNING if is_home else GUESTS_RUNNING,
        )  # fmt: skip
        catalog.add_built_in(organization)
        editing.add_built_in(organization)
    return organization


def first_organization() -> Organization:
    """The organization of this installation, made on the first start."""
    return Organization.objects.order_by("id").first() or found_organization(
        name="My organization", is_home=True
    )


def is_set_up() -> bool:
    """Whether this installation has anybody."""
    return Membership.objects.exists()


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
        audit.note(None, "account.set_up", organization, user=user)
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
    if not settings.REGISTRATION_OPEN and is_set_up():
        raise Forbidden(
            "Registration is closed here; ask for an invitation. Whoever runs Muster can open it "
            "with MUSTER_REGISTRATION_OPEN=true.",
            code="auth.forbidden",
        )
    limits.take((limits.SIGN_UPS, client.household()))
    with transaction.atomic():
        user = create_user(email=email, password=password, username=username, name=name)
        organization = found_organization(
            name=f"{user.display_name}'s organization", require_end_user_id=require_end_user_id
        )
        Membership.objects.create(organization=organization, user=user, role=Role.OWNER)
        audit.note(None, "account.register", organization, user=user)
    return Access(organization=organization, role=Role.OWNER, user=user)


def sign_in(*, login: str, password: str, known_browser: str = "") -> Access:
    """The access of e-mail (or user name) and password.

    `known_browser` says whom this browser signed in before (`browser_of`), if it proves that:
    strangers' guesses at an account never keep its own people out. Raises `NotSignedIn`, and
    `TooMany` after many wrong passwords, alike for addresses that nobody has.
    """
    limits.take((limits.SIGN_INS, client.household()))
    login = login.strip().lower()
    if "@" not in login:
        named = User.objects.filter(username__iexact=login).values_list("email", flat=True)
        login = named.first() or login
    known = User.objects.filter(email=login).first()
    is_known_browser = known is not None and browser_of(known) == known_browser
    user = _checked_by_password(known, login, password, is_known_browser=is_known_browser)
    access = access_of_member(user)
    if access is None:
        raise Forbidden("You are in no organization.", code="auth.no_account_membership")
    audit.note(None, "session.sign_in", user, user=user)
    return access


def browser_of(user: User) -> str:
    """What a browser that signed `user` in keeps, signed, until all their sessions are ended."""
    return f"{user.uid}:{user.session_version}"


def _checked_by_password(
    user: User | None, login: str, password: str, *, is_known_browser: bool = False
) -> User:
    """The user, if the password is theirs; takes as long for nobody's address.

    A try is counted before it is made, per account and source, so that many at once are no way
    around the limit. Raises `NotSignedIn`, `TooMany`.
    """
    if is_known_browser:
        counts = [(limits.GUESSES, f"{login} known")]
    else:
        counts = [
            (limits.GUESSES, f"{login} {client.household()}"), (limits.STRANGE_GUESSES, login),
        ]  # fmt: skip
    with _hashing.place():  # before it counts: who is turned away here made no guess
        try:
            limits.take(*counts)
        except TooMany as error:
            error.code = "auth.locked"
            raise
        is_right = user is not None and user.check_password(password)
        if user is None:
            make_password(password)
    if user is not None and not is_right:
        audit.note(None, "session.wrong_password", user, user=user, refused=True)
    if user is None or not is_right or not user.is_active:
        raise NotSignedIn("E-mail or password is wrong.", code="auth.invalid_credentials")
    limits.forget(*counts)
    return user


def rename_user(access: Access, name: str) -> None:
    """Change what colleagues see instead of one's address. Raises `Forbidden`, `Invalid`."""
    access.require_unlimited()
    user = access.require_person()
    user.name = _checked_name(name, field="name")
    user.save(update_fields=["name", "updated_at"])


def change_password(access: Access, *, current: str, new: str) -> User:
    """Give oneself another password and end all one's sessions; keys of programs stay.

    Raises `Forbidden` for a limited key, `NotSignedIn` for a wrong current one, `Invalid` for a
    weak new one, `TooMany`.
    """
    access.require_unlimited()
    user = access.require_person()
    check_password(new, user, field="new_password")
    user = _checked_by_password(user, user.email, current)
    with transaction.atomic():
        user.set_password(new)
        user.save(update_fields=["password", "updated_at"])
        sessions.end_all_sessions(user)
        audit.note(None, "account.password", user, user=user)
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


def welcome(user: User) -> None:
    """Mail the first link to somebody who has just signed up. Where the address gets too many
    mails, they have their account all the same, and ask for the link later."""
    with suppress(TooMany):
        send_verification(user)


def send_verification(user: User) -> None:
    """Mail the link that confirms the address. Once confirmed, nothing is sent. Raises
    `TooMany`."""
    if user.email_verified_at is not None:
        return
    limits.take((limits.ASKED_MAILS, client.household()), (limits.MAILS_TO, user.email))
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


def verify(user: User, *, password: str | None = None, by: User | None = None) -> User:
    """The address is theirs: who has the link proves it, and that they are the account's owner, by
    the session of `by` or by its password. One without a password sets it now, and the keys that
    were made before, to set things up, no longer work.

    Raises `Invalid` for a weak password, `NotSignedIn` for a wrong one, `TooMany`.
    """
    is_claimed = user.has_usable_password()
    if not is_claimed:
        if password is None:
            raise Invalid("password is required to claim this account.")
        check_password(password, user)
    elif by is None or by.pk != user.pk:
        # Somebody else may have registered the address: its owner's click must not confirm theirs.
        _checked_by_password(user, user.email, password or "")
    with transaction.atomic():
        if not is_claimed:
            user.set_password(password)
            user.api_keys.filter(revoked_at=None).update(revoked_at=now())
        user.email_verified_at = user.email_verified_at or now()
        user.save(update_fields=["password", "email_verified_at", "updated_at"])
        audit.note(None, "account.confirm" if is_claimed else "account.claim", user, user=user)
    return user


def set_up_before_claim(user: User) -> list[str]:
    """What programs set up for an account that nobody has claimed yet, by kind and name: whoever
    claims it should know what they take over."""
    found: list[str] = []
    for membership in user.memberships.select_related("organization"):
        made = membership.organization
        for kind, rows in (
            ("Teammate", made.teammates.filter(created_by=user)),
            ("Task", made.tasks.filter(is_ad_hoc=False)),
            ("Skill", made.skills),
            ("App", made.tool_servers),
            ("Document", made.documents),
        ):
            names = rows.order_by("id").values_list("name", flat=True)
            found += [f"{kind} “{name}”" for name in names[:MOST_SHOWN]]
        if memories := made.memories.count():
            found.append(f"{memories} memor{'y' if memories == 1 else 'ies'}")
    return found


# --- a forgotten password -----------------------------------------------------------------------

_RESETS = "teammates.reset"


def ask_for_reset(email: str) -> None:
    """Mail a link that sets a new password, if somebody has this address; says nothing of whether.

    Raises `TooMany` for who asks too often, whoever they ask for.
    """
    email = email.strip().lower()
    limits.take((limits.ASKED_MAILS, client.household()), (limits.RESETS_TO, email))
    user = User.objects.filter(email=email, is_active=True).first()
    if user is None or not user.has_usable_password():
        return
    token = signing.dumps([user.pk, _state(user)], salt=_RESETS)
    mail.send(user.email, "Set a new password", "reset", {
        "link": mail.public_url() + reverse("teammates:reset", args=[token]),
        "hours": RESET_LINK_HOURS,
    })  # fmt: skip


def user_of_reset(token: str) -> User:
    """Who may set a new password by this link. Raises `NotFound` for a used, old or wrong one."""
    try:
        pk, state = signing.loads(token, salt=_RESETS, max_age=RESET_LINK_HOURS * 3600)
    except signing.BadSignature:
        pk, state = 0, ""
    user = User.objects.filter(pk=pk, is_active=True).first()
    if user is None or not secrets.compare_digest(_state(user), state):
        raise NotFound("This link was used, or is too old. Ask for a new one.")
    return user


def reset_password(token: str, password: str) -> User:
    """Set a new password by the link of a mail, which proves the address too. All sessions end;
    keys of programs stay, unless the address was not confirmed before. Raises `NotFound`,
    `Invalid`."""
    check_password(password, user_of_reset(token))
    with transaction.atomic():
        locked = User.objects.select_for_update(no_key=True).get(pk=user_of_reset(token).pk)
        user_of_reset(token)  # of two at once, one wins
        locked.set_password(password)
        if locked.email_verified_at is None:
            # Whoever registered this address may have been somebody else: their keys end.
            locked.api_keys.filter(revoked_at=None).update(revoked_at=now())
            locked.email_verified_at = now()
        locked.save(update_fields=["password", "email_verified_at", "updated_at"])
        sessions.end_all_sessions(locked)
        audit.note(None, "account.password", locked, user=locked)
    return locked


def _state(user: User) -> str:
    """What a new password, a sign-out everywhere or another address changes."""
    return hash_secret(f"{user.email}{user.password}{user.session_version}")[:32]


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


@audit.recorded("settings.update", of_organization=True)
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


def check_password(password: str, user: User | None = None, *, field: str = "password") -> None:
    """Raise `Invalid` for a password that is too short, too long, too common, or too like the
    `user` it is for (`AUTH_PASSWORD_VALIDATORS`)."""
    if len(password) > 1024:
        raise Invalid(f"{field} must have at most 1024 characters.")
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise Invalid(f"{field}: " + " ".join(error.messages)) from None


class VariedPassword:
    """Django's rule for one: not the same few characters again and again, not blanks."""

    least = 5  # different characters

    def validate(self, password: str, user: User | None = None) -> None:
        if len(set(password.strip())) < self.least:
            raise ValidationError(self.get_help_text())

    def get_help_text(self) -> str:
        return f"It must have at least {self.least} different characters."


def _checked_name(name: str, *, field: str) -> str:
    if not name.strip() or len(name.strip()) > 200:
        raise Invalid(f"{field} must have 1 to 200 characters.")
    return name.strip()


@cache
def _user_name_pattern() -> re.Pattern[str]:
    return re.compile(r"[^@\s]{1,150}")
