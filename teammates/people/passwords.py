"""Passwords: checked, changed, forgotten and made anew."""

import secrets

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core import signing
from django.core.exceptions import ValidationError
from django.db import transaction
from django.urls import reverse
from django.utils.timezone import now

from teammates.access import Access
from teammates.errors import Invalid, NotFound, NotSignedIn, TooMany
from teammates.fields import hash_secret
from teammates.models import User
from teammates.people import account_mail, sessions
from teammates.trust import audit, client, limits

RESET_LINK_HOURS = 2
# Hashing a password takes a core for a moment: some threads stay free for everybody else.
_hashing = limits.Room("people sign in", max(1, settings.REQUEST_THREADS // 2 - 1))


def checked_by_password(
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
            (limits.GUESSES, f"{login} {client.household()}"),
            (limits.STRANGE_GUESSES, login),
        ]
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


def change_password(access: Access, *, current: str, new: str) -> User:
    """Give oneself another password and end all one's sessions; keys of programs stay.

    Raises `Forbidden` for a limited key, `NotSignedIn` for a wrong current one, `Invalid` for a
    weak new one, `TooMany`.
    """
    access.require_unlimited()
    user = access.require_person()
    check_password(new, user, field="new_password")
    user = checked_by_password(user, user.email, current)
    with transaction.atomic():
        user.set_password(new)
        user.save(update_fields=["password", "updated_at"])
        sessions.end_all_sessions(user)
        audit.note(None, "account.password", user, user=user)
    return user


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
    account_mail.send(
        user.email,
        "Set a new password",
        "reset",
        {
            "link": account_mail.public_url() + reverse("teammates:reset", args=[token]),
            "hours": RESET_LINK_HOURS,
        },
    )


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
