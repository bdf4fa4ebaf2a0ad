"""Whether a mail address is its user's; and claiming an account that a program made."""

from contextlib import suppress
from typing import Any

from django.conf import settings
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.db import transaction
from django.urls import reverse
from django.utils.timezone import now

from teammates.errors import Invalid, NotFound, TooMany
from teammates.models import User
from teammates.people import account_mail
from teammates.people.passwords import check_password, checked_by_password
from teammates.trust import audit, client, limits


class _VerificationTokens(PasswordResetTokenGenerator):
    """Good once, and until the address or the password changes."""

    key_salt = "teammates.verification"

    def _make_hash_value(self, user: Any, timestamp: int) -> str:
        known = (user.pk, user.email, user.password, user.email_verified_at, user.session_version)
        return f"{known}{timestamp}"


def verification_link(user: User) -> str:
    """The path of the page that proves that the mail address is the user's."""
    token = _VerificationTokens().make_token(user)
    return reverse("runs:verify", args=[f"{user.pk}-{token}"])


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
    account_mail.send(
        user.email,
        "Confirm your e-mail address",
        "verify",
        {
            "user": user,
            "link": account_mail.public_url() + verification_link(user),
            "days": settings.PASSWORD_RESET_TIMEOUT // 86400,
            "needs_password": not user.has_usable_password(),
        },
    )


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
        checked_by_password(user, user.email, password or "")
    with transaction.atomic():
        if not is_claimed:
            user.set_password(password)
            user.api_keys.filter(revoked_at=None).update(revoked_at=now())
        user.email_verified_at = user.email_verified_at or now()
        user.save(update_fields=["password", "email_verified_at", "updated_at"])
        audit.note(None, "account.confirm" if is_claimed else "account.claim", user, user=user)
    return user
