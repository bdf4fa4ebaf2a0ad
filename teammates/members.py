"""The people of an organization: invited, given a role, removed."""

import secrets
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils import timezone

from teammates import accounts, mail
from teammates.access import PERMISSIONS, Access
from teammates.errors import Conflict, Forbidden, Invalid, NotFound
from teammates.fields import hash_secret
from teammates.models import Invitation, Membership, Organization, Role, User
from teammates.trust import audit, limits

INVITED_FOR = timedelta(days=7)
MOST_OPEN = 100  # invitations of an organization

# What roles may do, in words, for people who choose one: a sentence, and the permission behind it.
ABILITIES = (
    ("See teammates, and the runs and threads of their own", "data.runs.read"),
    ("Start runs, decide what is asked, make teammates of their own", "data.runs.write"),
    ("Make API keys for themselves", "data.api_keys.manage"),
    ("See everybody's runs, decide and close them", "data.runs.close"),
    ("Change any teammate, and skills", "data.personas.manage"),
    ("See and change end users, and what is remembered of them", "data.end_users.manage"),
    ("Connect models and apps, set prices", "data.llm_credentials.manage"),
    ("Set what may act without asking", "data.permissions.manage"),
    ("See what everybody used and what it cost", "data.usage.read"),
    ("Invite people, give roles, remove people", "org.members.invite"),
    ("Change settings, read the audit log", "org.settings.manage"),
    ("Make owners, close the account", "org.account.manage"),
)


def find_member(organization: Organization, email: str) -> User | None:
    """The active member with this address, in whatever case it is written."""
    members = Membership.objects.filter(organization=organization, user__is_active=True)
    found = members.filter(user__email=email.lower()).select_related("user").first()
    return found.user if found is not None else None


def abilities() -> list[tuple[str, list[bool]]]:
    """Each ability with whether each role has it, in the order of `Role`."""
    return [
        (words, [permission in PERMISSIONS[role] for role in Role.values])
        for words, permission in ABILITIES
    ]


# --- members ------------------------------------------------------------------------------------


def list_members(access: Access) -> Any:
    access.require("org.members.list")
    rows = Membership.objects.filter(organization=access.organization)
    return rows.select_related("user").order_by("id")


def get_member(access: Access, membership_id: int) -> Membership:
    """One's own, or, for those who see the list, anybody's. Raises `NotFound`."""
    rows = Membership.objects.filter(organization=access.organization).select_related("user")
    if not access.may("org.members.list"):
        rows = rows.filter(user=access.user)
    found: Membership | None = rows.filter(pk=membership_id).first()
    if found is None:
        raise NotFound("There is no such member.", code="members.not_found")
    return found


@audit.recorded("member.role")
def change_role(access: Access, membership: Membership, role: str) -> Membership:
    """Raises `Invalid`, `Forbidden` where only owners may, `Conflict` for the last owner."""
    access.require("org.members.revoke", membership)
    if role not in Role.values:
        raise Invalid(f"role must be one of {', '.join(Role.values)}.")
    with transaction.atomic():
        locked = _locked(membership)
        _check_owners(access, locked, is_owner=role == Role.OWNER)
        locked.role = role
        locked.save(update_fields=["role"])
    return locked


@audit.recorded("member.remove")
def remove_member(access: Access, membership: Membership) -> None:
    """Take a person out; again is fine. What they made stays, their keys stop working.

    Raises `Forbidden` where only owners may, `Conflict` for the last owner.
    """
    is_self = access.user is not None and membership.user_id == access.user.pk
    if not is_self:
        access.require("org.members.revoke", membership)
    with transaction.atomic():
        try:
            locked = _locked(membership)
        except Membership.DoesNotExist:
            return
        _check_owners(access, locked, is_owner=False)
        locked.delete()


def not_mailed(access: Access) -> list[str]:
    """Kinds of notices that the asker gets no mails about in this organization."""
    mine = Membership.objects.filter(organization=access.organization, user=access.user)
    return mine.values_list("not_mailed", flat=True).first() or []


def choose_mails(access: Access, *, not_mailed: list[str]) -> None:
    mine = Membership.objects.filter(organization=access.organization, user=access.user)
    mine.update(not_mailed=not_mailed)


def _locked(membership: Membership) -> Membership:
    """The row as it is now. The organization's row is the lock: two owners who leave at once must
    not both be second to last."""
    Organization.objects.select_for_update(no_key=True).get(pk=membership.organization_id)
    return Membership.objects.select_related("user").get(pk=membership.pk)


def _check_owners(access: Access, membership: Membership, *, is_owner: bool) -> None:
    if membership.role != Role.OWNER and not is_owner:
        return
    if access.role != Role.OWNER:
        raise Forbidden("Only owners make owners, and change or remove them.")
    owners = Membership.objects.filter(
        organization_id=membership.organization_id, role=Role.OWNER
    ).exclude(pk=membership.pk)
    if not is_owner and not owners.exists():
        raise Conflict(
            f"{membership.user.display_name} is the last owner. Make somebody else an owner first.",
            code="members.last_owner",
        )


# --- invitations --------------------------------------------------------------------------------


def list_invitations(access: Access) -> Any:
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
                organization=organization, email=email, role=role, invited_by=access.user,
                token_hash=hash_secret(token), expires_at=timezone.now() + INVITED_FOR,
            )  # fmt: skip
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
    return mail.send(invitation.email, subject, "invitation", {
        "invitation": invitation, "link": link, "days": INVITED_FOR.days,
    })  # fmt: skip


def find(token: str) -> Invitation:
    """The open invitation of a link. Raises `NotFound`."""
    found = Invitation.objects.select_related("organization", "invited_by").filter(
        token_hash=hash_secret(token), accepted_at=None, expires_at__gt=timezone.now(),
        organization__closed_at=None,
    ).first()  # fmt: skip
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
        user = accounts.create_user(email=invitation.email, password=password, name=name)
        accept(invitation, user=user)
    return user
