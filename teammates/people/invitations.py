"""Invitations into an organization: made, mailed, accepted."""

import secrets
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from teammates.access import Access
from teammates.errors import Conflict, Forbidden, Invalid, NotFound
from teammates.fields import hash_secret
from teammates.models import Invitation, Membership, Organization, Role, User
from teammates.people import account_mail, users
from teammates.trust import audit, limits

INVITED_FOR = timedelta(days=7)
MOST_OPEN = 100  # invitations of an organization


def list_invitations(access: Access) -> "QuerySet[Invitation]":
    """Those that are open or ran out, newest first."""
    access.require("org.members.list")
    rows = Invitation.objects.filter(organization=access.organization, accepted_at=None)
    return rows.select_related("invited_by").order_by("-id")


def get_invitation(access: Access, invitation_id: int) -> Invitation:
    """Raises `NotFound`."""
    found: Invitation | None = list_invitations(access).filter(pk=invitation_id).first()
    if found is None:
        raise NotFound("There is no such invitation.", code="invitations.not_found")
    return found


def invite(access: Access, *, email: str, role: str) -> tuple[Invitation, str]:
    """Invite somebody; returns the token of their link, which is stored nowhere.

    Raises `Invalid`, `Forbidden`, `Conflict` for a member or somebody invited already.
    """
    access.require("org.members.invite")
    access.require_confirmed()
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        raise Invalid("email is not an e-mail address.") from None
    if role not in Role.values:
        raise Invalid(f"role must be one of {', '.join(Role.values)}.")
    if role == Role.OWNER and access.role != Role.OWNER:
        raise Forbidden("Only owners make owners.")
    organization = access.organization
    if organization.memberships.filter(user__email=email).exists():
        raise Conflict(f"{email} is a member already.", code="invitations.is_member")
    # Before the transaction, which a refusal would undo with its count.
    _count_mail(invitation_to=email, organization=organization)
    return _invite(access, email, role)


@audit.recorded("invitation.invite", makes=Invitation)
def _invite(access: Access, email: str, role: str) -> tuple[Invitation, str]:
    organization = access.organization
    token = secrets.token_urlsafe(24)
    try:
        with transaction.atomic():
            Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
            waiting = Invitation.objects.filter(organization=organization, accepted_at=None)
            if waiting.count() >= MOST_OPEN:
                raise Conflict(f"{MOST_OPEN} invitations are open; revoke some first.")
            invitation = Invitation.objects.create(
                organization=organization,
                email=email,
                role=role,
                invited_by=access.user,
                token_hash=hash_secret(token),
                expires_at=timezone.now() + INVITED_FOR,
            )
    except IntegrityError:
        raise Conflict(
            f"{email} is invited already; send that invitation again.", code="invitations.open"
        ) from None
    return invitation, token


def renew(access: Access, invitation: Invitation) -> str:
    """A new link for an invitation; the old one stops working. Raises `Forbidden`."""
    access.require("org.members.invite", invitation)
    _check_owners_invitation(access, invitation)
    _count_mail(invitation_to=invitation.email, organization=access.organization)
    return _renew(access, invitation)


@audit.recorded("invitation.renew")
def _renew(access: Access, invitation: Invitation) -> str:
    token = secrets.token_urlsafe(24)
    invitation.token_hash = hash_secret(token)
    invitation.expires_at = timezone.now() + INVITED_FOR
    invitation.save(update_fields=["token_hash", "expires_at"])
    return token


def _count_mail(*, invitation_to: str, organization: Organization) -> None:
    """Raises `TooMany`."""
    limits.take((limits.MAILS_TO, invitation_to), (limits.INVITATIONS, organization.pk))


@audit.recorded("invitation.revoke")
def revoke(access: Access, invitation: Invitation) -> None:
    access.require("org.members.revoke", invitation)
    _check_owners_invitation(access, invitation)
    Invitation.objects.filter(pk=invitation.pk, accepted_at=None).delete()


def _check_owners_invitation(access: Access, invitation: Invitation) -> None:
    """Whoever has an owner's link becomes one."""
    if invitation.role == Role.OWNER and access.role != Role.OWNER:
        raise Forbidden("Only owners make owners.")


def send(invitation: Invitation, link: str) -> bool:
    """Mail the link; returns whether a mail server took it."""
    subject = f"You are invited to {invitation.organization.name} on Muster"
    return account_mail.send(
        invitation.email,
        subject,
        "invitation",
        {
            "invitation": invitation,
            "link": link,
            "days": INVITED_FOR.days,
        },
    )


def find(token: str) -> Invitation:
    """The open invitation of a link. Raises `NotFound`."""
    found = (
        Invitation.objects.select_related("organization", "invited_by")
        .filter(
            token_hash=hash_secret(token),
            accepted_at=None,
            expires_at__gt=timezone.now(),
            organization__closed_at=None,
        )
        .first()
    )
    if found is None:
        raise NotFound("This invitation was used, taken back, or is too old. Ask for a new one.")
    return found


def accept(invitation: Invitation, *, user: User) -> Membership:
    """Join as a person who has an account. Raises `Forbidden` for another address, `NotFound`."""
    if user.email != invitation.email:
        raise Forbidden(
            f"This invitation is for {invitation.email}; you are signed in as {user.email}."
        )
    with transaction.atomic():
        taken = Invitation.objects.filter(pk=invitation.pk, accepted_at=None)
        if not taken.update(accepted_at=timezone.now()):
            raise NotFound("This invitation was used already. Sign in instead.")
        membership, _ = Membership.objects.get_or_create(
            organization=invitation.organization, user=user, defaults={"role": invitation.role}
        )
        access = Access(invitation.organization, membership.role, user=user)
        audit.note(access, "member.join", membership, changes={"role": [None, membership.role]})
    return membership


def join(invitation: Invitation, *, name: str, password: str) -> User:
    """Join as somebody new. Raises `Invalid`, `Conflict` for an address with an account."""
    with transaction.atomic():
        user = users.create_user(email=invitation.email, password=password, name=name)
        accept(invitation, user=user)
    return user
