"""The people of an organization: invited, given a role, removed."""

from django.db import transaction
from django.db.models import QuerySet

from teammates.access import PERMISSIONS, Access
from teammates.errors import Conflict, Forbidden, Invalid, NotFound
from teammates.models import Digest, Membership, Organization, Role, User
from teammates.trust import audit

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


def list_members(access: Access) -> "QuerySet[Membership]":
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


def choose_mails(access: Access, *, not_mailed: list[str], digest: str = "") -> None:
    """Which kinds of notices are not mailed, and how often what was used is. Raises `Invalid`."""
    if digest not in Digest.values:
        raise Invalid("digest must be daily, weekly or empty.")
    mine = Membership.objects.filter(organization=access.organization, user=access.user)
    mine.update(not_mailed=not_mailed, digest=digest)


def digest_of(access: Access) -> str:
    mine = Membership.objects.filter(organization=access.organization, user=access.user)
    return mine.values_list("digest", flat=True).first() or ""


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
