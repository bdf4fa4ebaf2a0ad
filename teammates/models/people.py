"""Organizations and the people in and behind them."""

from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from teammates.fields import Identified


class RetentionMode(models.TextChoices):
    STANDARD = "standard", "Keep what was said"
    METADATA_ONLY = "metadata_only", "Keep numbers and states alone"


class Organization(Identified):
    """The tenant: everything belongs to exactly one."""

    name = models.CharField(max_length=200)
    # The installation's own, not one that a stranger registered: its admins run the machine.
    is_home = models.BooleanField(default=False)
    timezone = models.CharField(max_length=64, default="UTC")
    # By which its sums of days were made: where that is another one, a worker makes them again.
    days_timezone = models.CharField(max_length=64, default="UTC", db_default="UTC")
    # v2's strict multi-tenant mode: an API request must say for which end user it acts.
    require_end_user_id = models.BooleanField(default=False)
    max_running = models.PositiveIntegerField(default=100)
    # Whoever started a run is told by e-mail that it waits for a decision.
    approval_email_enabled = models.BooleanField(default=True)
    approval_slack_enabled = models.BooleanField(default=True)
    # And of the result of a run that asked for it and that nobody looked at.
    result_email_enabled = models.BooleanField(default=True)
    result_slack_enabled = models.BooleanField(default=True)
    retention_mode = models.CharField(
        max_length=13, choices=RetentionMode.choices, default=RetentionMode.STANDARD
    )
    metadata_only_since = models.DateTimeField(null=True)
    # What one end user may do in a calendar month (UTC), and in a minute; None: no limit.
    per_end_user_run_limit = models.PositiveIntegerField(null=True)
    per_end_user_cost_limit_cents = models.PositiveBigIntegerField(null=True)
    per_end_user_rate_per_minute = models.PositiveIntegerField(null=True)
    # The day whose spending its people were told is unusual.
    unusual_told_on = models.DateField(null=True)
    # Closed by its owner; erased after a while (`runs/retention/`).
    closed_at = models.DateTimeField(null=True)
    setup_token_hash = models.CharField(max_length=64, blank=True, default="")
    # Of the door at which a mail service hands mails over; shown once, as those of webhooks.
    mail_token_hash = models.CharField(max_length=64, blank=True, default="")
    mail_token_prefix = models.CharField(max_length=12, blank=True, default="")
    default_teammate = models.ForeignKey(
        "teammates.Teammate", null=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(max_running__gte=1), name="organization_runs_something"
            ),
            models.CheckConstraint(
                condition=models.Q(retention_mode__in=RetentionMode.values),
                name="organization_retention_known",
            ),
            models.UniqueConstraint(
                "mail_token_hash",
                name="organization_mail_door",
                condition=~models.Q(mail_token_hash=""),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def reaches_private_addresses(self) -> bool:
        """Whether servers that it sets up may be on the machine or its network."""
        return bool(settings.ALLOW_PRIVATE_ADDRESSES or self.is_home)


class UserManager(BaseUserManager["User"]):
    def create_user(self, *, email: str, password: str | None, **fields: Any) -> "User":
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=(username or "").strip().lower())


class User(AbstractBaseUser, Identified):
    """A person who signs in with an e-mail address."""

    email = models.EmailField(max_length=254, unique=True)  # lower case
    username = models.CharField(max_length=150, blank=True, default="")
    name = models.CharField(max_length=150, blank=True, default="")
    is_active = models.BooleanField(default=True)
    # Raised by a password change or a sign-out everywhere: tokens made before are dead.
    session_version = models.PositiveIntegerField(default=1)
    email_verified_at = models.DateTimeField(null=True)

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

    def get_session_auth_hash(self) -> str:
        """What a browser's session must still match: signing out everywhere changes it."""
        return str(super().get_session_auth_hash()) + f".{self.session_version}"

    @property
    def display_name(self) -> str:
        return self.name or self.username or self.email.partition("@")[0]


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    MEMBER = "member", "Member"
    VIEWER = "viewer", "Viewer"


class Digest(models.TextChoices):
    NEVER = "", "Never"
    DAILY = "daily", "Every day"
    WEEKLY = "weekly", "Every Monday"


class Membership(models.Model):
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="memberships"
    )
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)
    created_at = models.DateTimeField(auto_now_add=True)
    # The newcomer's list of first steps was put away.
    settled_in_at = models.DateTimeField(null=True)
    # Kinds of notices that are not mailed to this person.
    not_mailed = models.JSONField(default=list)
    # How often its person is mailed what was used, and the last day of theirs on which that was.
    digest = models.CharField(
        max_length=6, choices=Digest.choices, blank=True, default="", db_default=""
    )
    digest_on = models.DateField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("organization", "user", name="membership_once"),
            models.CheckConstraint(
                condition=models.Q(role__in=Role.values), name="membership_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization} ({self.role})"


class Invitation(models.Model):
    """Somebody who may join; their link is known to them alone."""

    id = models.BigAutoField(primary_key=True)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="invitations"
    )
    email = models.EmailField(max_length=254)  # lower case
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)
    token_hash = models.CharField(max_length=64, unique=True)
    invited_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "organization",
                "email",
                name="invitation_one_open",
                condition=models.Q(accepted_at=None),
            ),
            models.CheckConstraint(
                condition=models.Q(role__in=Role.values), name="invitation_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.email} to {self.organization_id}"

    @property
    def is_too_old(self) -> bool:
        return self.expires_at <= timezone.now()


class EndUser(Identified):
    """A customer of the organization, named by the organization's own opaque string."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="end_users"
    )
    external_id = models.CharField(max_length=255)
    # The profile. Deleting it leaves the row, which what the end user has refers to.
    name = models.CharField(max_length=255, blank=True, default="")
    email = models.CharField(max_length=254, blank=True, default="")
    company = models.CharField(max_length=255, blank=True, default="")
    metadata = models.JSONField(null=True)
    # Instead of the organization's; 0 runs: blocked.
    run_limit = models.PositiveIntegerField(null=True)
    cost_limit_cents = models.PositiveBigIntegerField(null=True)
    rate_per_minute = models.PositiveIntegerField(null=True)
    removed_at = models.DateTimeField(null=True)
    # When all that they had said by then was to be erased, if somebody asked for that.
    erased_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("organization", "external_id", name="end_user_once"),
            models.CheckConstraint(
                condition=~models.Q(external_id=""), name="end_user_id_not_empty"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["organization", "-id"],
                name="end_user_list",
                condition=models.Q(removed_at=None),
            ),
        ]

    def __str__(self) -> str:
        return self.external_id
