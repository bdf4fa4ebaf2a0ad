"""Organizations and the people in and behind them."""

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models.functions import Lower

from teammates.fields import Named


class Organization(Named):
    """The tenant: everything belongs to exactly one."""

    name = models.CharField(max_length=200)
    # The installation's own, not one that a stranger registered: its admins run the machine.
    is_home = models.BooleanField(default=False)
    timezone = models.CharField(max_length=64, default="UTC")
    # v2's strict multi-tenant mode: an API request must say for which end user it acts.
    require_end_user_id = models.BooleanField(default=False)
    max_running = models.PositiveIntegerField(default=100)
    # Whoever started a run is told by e-mail that it waits for a decision.
    approval_email_enabled = models.BooleanField(default=True)
    setup_token_hash = models.CharField(max_length=64, blank=True, default="")
    default_teammate = models.ForeignKey(
        "teammates.Teammate", null=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(max_running__gte=1), name="organization_runs_something"
            )
        ]

    def __str__(self) -> str:
        return self.name


class UserManager(BaseUserManager["User"]):
    def create_user(self, *, email: str, password: str | None, **fields: Any) -> "User":
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=(username or "").strip().lower())


class User(AbstractBaseUser, Named):
    """A person who signs in with an e-mail address."""

    email = models.EmailField(max_length=254, unique=True)  # lower case
    username = models.CharField(max_length=150, blank=True, default="")
    name = models.CharField(max_length=150, blank=True, default="")
    is_active = models.BooleanField(default=True)
    # Raised by a password change or a sign-out everywhere: tokens made before are dead.
    session_version = models.PositiveIntegerField(default=1)

    objects = UserManager()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(email=Lower("email")), name="user_email_lower_case"
            ),
            models.UniqueConstraint(
                Lower("username"), name="user_name_once", condition=~models.Q(username="")
            ),
        ]

    def __str__(self) -> str:
        return self.display_name

    @property
    def display_name(self) -> str:
        return self.name or self.username or self.email.partition("@")[0]


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    MEMBER = "member", "Member"
    VIEWER = "viewer", "Viewer"


class Membership(models.Model):
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="memberships"
    )
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("organization", "user", name="membership_once"),
            models.CheckConstraint(
                condition=models.Q(role__in=Role.values), name="membership_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization} ({self.role})"


class EndUser(Named):
    """A customer of the organization, named by the organization's own opaque string."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="end_users"
    )
    external_id = models.CharField(max_length=255)
    name = models.CharField(max_length=255, blank=True, default="")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("organization", "external_id", name="end_user_once"),
            models.CheckConstraint(
                condition=~models.Q(external_id=""), name="end_user_id_not_empty"
            ),
        ]

    def __str__(self) -> str:
        return self.external_id
