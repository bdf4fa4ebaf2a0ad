"""People sign up and in."""

from django.conf import settings
from django.db import transaction

from teammates.access import Access, access_of_member
from teammates.errors import Forbidden
from teammates.models import Membership, Role, User
from teammates.people.organizations import found_organization
from teammates.people.passwords import checked_by_password
from teammates.people.setup import is_set_up
from teammates.people.users import create_user
from teammates.trust import audit, client, limits


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
    user = checked_by_password(known, login, password, is_known_browser=is_known_browser)
    access = access_of_member(user)
    if access is None:
        raise Forbidden("You are in no organization.", code="auth.no_account_membership")
    audit.note(None, "session.sign_in", user, user=user)
    return access


def browser_of(user: User) -> str:
    """What a browser that signed `user` in keeps, signed, until all their sessions are ended."""
    return f"{user.uid}:{user.session_version}"
