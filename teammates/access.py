"""Who is asking: built once per request, and where every query starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from django.db import models
from django.db.models import OuterRef, Subquery

from teammates.errors import Forbidden, Invalid, NotFound
from teammates.models import APIKey, EndUser, Membership, Organization, Role, User
from teammates.models.scoped import Owned, OwnedQuerySet

Q = TypeVar("Q", bound=OwnedQuerySet[Any])
R = TypeVar("R", bound=models.QuerySet[Any])
Reached = Mapping[type[models.Model], models.QuerySet[Any]]

# What each role may do. The names are those of the v1 contract (1.5).
MEMBER = frozenset(
    {
        "data.threads.read",
        "data.threads.write",
        "data.runs.read",
        "data.runs.write",
        "data.personas.read",
        "data.api_keys.manage",
    }
)
ADMIN = MEMBER | {
    "data.personas.manage",
    "data.end_users.manage",
    "data.runs.close",
    "data.llm_credentials.manage",
    "data.usage.read",
    "data.budgets.manage",
    "data.permissions.manage",
    "data.mcp_configs.manage",
    "data.webhooks.manage",
    "org.members.list",
    "org.members.invite",
    "org.members.revoke",
    "org.settings.manage",
    "org.audit_read",
}
OWNER = ADMIN | {"org.account.manage"}
PERMISSIONS: dict[str, frozenset[str]] = {
    Role.OWNER: frozenset(OWNER),
    Role.ADMIN: frozenset(ADMIN),
    Role.MEMBER: MEMBER,
    Role.VIEWER: frozenset({"data.threads.read", "data.runs.read", "data.personas.read"}),
}
# What the words of somebody outside may do at most, whoever owns what they reach.
OUTSIDE = frozenset(
    {
        "data.threads.read",
        "data.threads.write",
        "data.runs.read",
        "data.runs.write",
        "data.personas.read",
    }
)
# What a key can be limited to: everything but the organization itself and its people.
SCOPES = sorted(name for name in OWNER if name.startswith("data."))


@dataclass(frozen=True)
class Access:
    """One organization, seen by one person or key, perhaps narrowed to one end user."""

    organization: Organization
    role: str
    user: User | None = None
    api_key: APIKey | None = None
    end_user: EndUser | None = None
    session_id: int | None = None  # of a program that signed in; None for browsers and keys
    # The channel and the sender outside of the organization whose words act here (`Run.origin`);
    # empty: somebody of the organization. Its authority is the owner's and the origin's.
    origin: str = ""
    # What these words had a part in so far: by model, a query of ids.
    reached: Reached = field(default_factory=dict, compare=False)
    # A run at work: in the scope of its end user, whatever its owner may see of end users.
    of_run: bool = False

    @property
    def permissions(self) -> frozenset[str]:
        """Those of the role; through a key that is limited, only what it is limited to."""
        of_role = PERMISSIONS[self.role]
        if self.origin:
            of_role &= OUTSIDE
        scopes = self.api_key.scopes if self.api_key is not None else []
        return of_role & frozenset(scopes) if scopes else of_role

    @property
    def role_label(self) -> str:
        return str(Role(self.role).label)

    @property
    def may_act(self) -> bool:
        """Viewers only look."""
        return self.may("data.runs.write")

    @property
    def is_admin(self) -> bool:
        return self.role in (Role.OWNER, Role.ADMIN) and not self.origin

    @property
    def runs_the_installation(self) -> bool:
        """An owner or admin of the installation's own organization, for no end user."""
        return self.is_admin and self.organization.is_home and self.end_user is None

    def may(self, permission: str) -> bool:
        return permission in self.permissions

    def require(self, permission: str, *rows: models.Model) -> None:
        """Raise `Forbidden` unless the role, and the key's scopes, have `permission`, and
        `NotFound` for a row that does not exist for the asker: another organization's, a
        colleague's, or, in an end user's scope, somebody else's. Costs no query."""
        if not self.may(permission):
            raise self._refusal(permission)
        for row in rows:
            if not self._reaches(row):
                raise NotFound(f"There is no such {row._meta.verbose_name}.")

    def require_installation(self) -> None:
        """Raise `Forbidden` for whoever does not run the installation."""
        if not self.runs_the_installation:
            raise Forbidden(
                "This is for owners and admins of the installation's own organization.",
                code="auth.forbidden",
            )

    def _refusal(self, permission: str) -> Forbidden:
        if self.origin:
            return Forbidden("Words from outside do not reach this; a person has to do it.")
        if permission in PERMISSIONS[self.role]:
            return Forbidden(
                f"This key is limited and lacks {permission}.",
                code="api_keys.scope_forbidden",
                permission=permission,
            )
        return Forbidden(
            f"Your role ({self.role_label}) does not allow this. Ask an owner or an admin.",
            code="auth.forbidden",
            permission=permission,
        )

    def _reaches(self, row: Any) -> bool:
        """Whether a row that was found exists for the asker, as `scope` says it of a query."""
        if row.organization_id != self.organization.pk:
            return False
        if not isinstance(row, Owned):
            return True
        if self.end_user is not None and row.end_user_id != self.end_user.pk:
            return False
        if self.role in (Role.OWNER, Role.ADMIN):
            return True
        return self.user is not None and row.created_by_id == self.user.pk

    def require_scope(self) -> None:
        """Raise `Forbidden` where somebody looks into an end user's affairs who may not."""
        if self.end_user is not None and not self.of_run:
            self.require("data.end_users.manage")

    def require_end_user(self) -> None:
        """Raise `Invalid` where the strict mode wants an end user and none is named."""
        if self.organization.require_end_user_id and self.end_user is None:
            raise Invalid(
                "This account requires an end user on every call: pass user_id, or turn the "
                "strict mode off with require_end_user_id=False.",
                code="END_USER_ID_REQUIRED",
            )

    @property
    def limited_key(self) -> APIKey | None:
        """The key, where it may do less than the person who made it."""
        return self.api_key if self.api_key is not None and self.api_key.scopes else None

    def require_unlimited(self) -> None:
        """Raise `Forbidden` for a limited key: it does not act as the person who made it."""
        if self.limited_key is not None:
            raise Forbidden(
                "This key is limited; sign in yourself to do this.",
                code="api_keys.scope_forbidden",
            )

    def require_person(self) -> User:
        """Whoever asks. Raises `Forbidden` for a key that belongs to no person."""
        if self.user is None:
            raise Forbidden("This key belongs to no person.", code="auth.forbidden")
        return self.user

    def require_confirmed(self) -> None:
        """Raise `Forbidden` where somebody who signed up here by themselves would reach others
        through this installation, before their mail address is known to be theirs."""
        user = self.user
        if user is not None and user.email_verified_at is None and not self.organization.is_home:
            raise Forbidden(
                "Confirm your e-mail address first: open the link in the mail that you got.",
                code="auth.email_unverified",
            )

    def scope(self, rows: Q) -> Q:
        """Those of the organization's `rows` that exist for the asker.

        Owners and admins see all, members their own; an end-user scope sees its own alone, and
        words from outside what came of the same sender's words over the same channel.
        Raises `Forbidden` for a key that may not read such rows.
        """
        self.require(read_permission(rows))
        rows = rows.filter(organization=self.organization)
        if self.end_user is not None:
            if self.end_user.pk is None:  # never seen: has nothing yet
                return rows.none()
            rows = rows.filter(end_user=self.end_user)
        if self.origin:
            rows = rows.filter(pk__in=self.reached.get(rows.model, ()))
        if self.role not in (Role.OWNER, Role.ADMIN):
            rows = rows.of_member(self.user)
        return rows

    def exact_scope(self, rows: R) -> R:
        """The organization's `rows` of the end user, or, without one, of no end user.

        Raises `Forbidden` for a key that may not read such rows.
        """
        self.require(read_permission(rows))
        if self.end_user is not None and self.end_user.pk is None:  # never seen: has nothing yet
            return rows.none()
        return rows.filter(organization=self.organization, end_user=self.end_user)

    def own(self) -> "Access":
        """As a member who manages nothing has it: without what only owners and admins see."""
        manages = self.role in (Role.OWNER, Role.ADMIN)
        return replace(self, role=Role.MEMBER) if manages else self

    def everything(self) -> "Access":
        """The whole organization, to tell a colleague's object (v1: 403) from a foreign one."""
        return replace(self, role=Role.OWNER)

    def for_end_user(self, external_id: str | None) -> "Access":
        """This access, narrowed to an end user; one never seen before sees nothing yet.

        Raises `Invalid` for an empty or overlong id.
        """
        if external_id is None:
            return self
        check_end_user_id(external_id)
        found = EndUser.objects.filter(
            organization=self.organization, external_id=external_id
        ).first()
        return replace(
            self,
            end_user=found or EndUser(organization=self.organization, external_id=external_id),
        )


def read_permission(rows: "models.QuerySet[Any]") -> str:
    """What it takes to look at rows of a model."""
    return str(getattr(rows.model, "READ", "data.runs.read"))


def check_end_user_id(external_id: str) -> None:
    if not external_id.strip() or len(external_id) > 255:
        raise Invalid("user_id must have 1 to 255 characters.")


def access_of_member(user: User, organization_uid: str | None = None) -> Access | None:
    """A person's access to the given one of their organizations, else to the first."""
    if not user.is_active:
        return None
    memberships = Membership.objects.filter(user=user, organization__closed_at=None)
    memberships = memberships.select_related("organization")
    if organization_uid is not None:
        memberships = memberships.filter(organization__uid=organization_uid)
    membership = memberships.order_by("id").first()
    if membership is None:
        return None
    return Access(organization=membership.organization, role=membership.role, user=user)


def access_of_owner(organization: Organization, owner: User | None) -> Access | None:
    """What something that `owner` set up may do by itself: what they may. What no person set up
    may what the organization's own keys may. None once the owner is no longer a member."""
    if owner is None:
        return Access(organization=organization, role=Role.ADMIN)
    return access_of_member(owner, str(organization.uid))


def take_over(access: Access, row: Any) -> None:
    """Whoever switches on what a person left behind who is no longer a member, owns it: a task or
    a teammate, which the caller holds."""
    if access_of_owner(row.organization, row.created_by) is None:
        row.created_by = access.user
        row.save(update_fields=["created_by", "updated_at"])


def role_in(organization: OuterRef, user: OuterRef) -> Subquery:
    """A user's role, as part of a query for something of theirs."""
    memberships = Membership.objects.filter(organization=organization, user=user)
    return Subquery(memberships.values("role")[:1])


def access_of_key(key: APIKey, creators_role: str | None) -> Access | None:
    """A key may do what its creator may, and nothing once the creator or the account is gone."""
    if key.organization.closed_at is not None:
        return None
    if key.created_by is None:
        if not key.is_organizations:
            return None
        return Access(organization=key.organization, role=Role.ADMIN, api_key=key)
    if creators_role is None or not key.created_by.is_active:
        return None
    return Access(
        organization=key.organization, role=creators_role, user=key.created_by, api_key=key
    )
