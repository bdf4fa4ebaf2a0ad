"""Teammates (v1: personas, v2: agents) and their immutable versions."""

from typing import ClassVar, Self

from django.conf import settings
from django.db import models
from django.urls import reverse

from teammates.fields import Identified, iff
from teammates.models.people import EndUser, Organization, User
from teammates.models.reachable import Reachable
from teammates.models.scoped import OwnedQuerySet


class PermissionMode(models.TextChoices):
    AUTONOMOUS = "autonomous", "Autonomous"
    APPROVAL = "approval", "Asks first"
    PLAN = "plan", "Plans first"


class Effort(models.TextChoices):
    LOW = "low", "Low"
    MEDIUM = "medium", "Medium"
    HIGH = "high", "High"
    XHIGH = "xhigh", "Very high"
    MAX = "max", "Maximum"


class PromptProfile(models.TextChoices):
    PLATFORM = "platform", "What Muster adds, and its own instructions"
    BARE = "bare", "Its own instructions alone"


class Visibility(models.TextChoices):
    PERSONAL = "personal", "Its maker"
    ORGANIZATION = "organization", "Everybody"


class TeammateStatus(models.TextChoices):
    ENABLED = "enabled", "Enabled"
    DISABLED = "disabled", "Paused"
    ARCHIVED = "archived", "Archived"


class TeammateQuerySet(OwnedQuerySet["Teammate"]):
    def of_member(self, user: User | None) -> Self:
        """Their own, and what is shared."""
        return self.filter(models.Q(created_by=user) | models.Q(visibility=Visibility.ORGANIZATION))

    def current(self) -> Self:
        return self.exclude(status=TeammateStatus.ARCHIVED)

    def with_owner(self) -> Self:
        """With whose work it is, and in whose name."""
        return self.with_version().select_related("organization", "end_user", "created_by")

    def with_version(self) -> Self:
        return self.select_related("version", "end_user", "organization")


class Teammate(Reachable, Identified):
    READ = "data.personas.read"
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="teammates"
    )
    end_user = models.ForeignKey(
        EndUser, null=True, on_delete=models.PROTECT, related_name="teammates"
    )
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    key = models.CharField(max_length=64)  # v1's persona key
    name = models.CharField(max_length=255)
    status = models.CharField(
        max_length=10, choices=TeammateStatus.choices, default=TeammateStatus.ENABLED
    )
    is_built_in = models.BooleanField(default=False)
    version = models.OneToOneField(
        "teammates.TeammateVersion", null=True, on_delete=models.PROTECT, related_name="+"
    )
    metadata = models.JSONField(null=True)
    allowed_senders = models.JSONField(null=True)
    # A second address, whose mails it reads and which starts nothing.
    fetchmail_name = models.CharField(max_length=64, blank=True, default="")
    template_slug = models.CharField(max_length=100, blank=True, default="")
    visibility = models.CharField(
        max_length=12, choices=Visibility.choices, default=Visibility.PERSONAL
    )
    display_order = models.IntegerField(null=True)
    # How other programs of the organization reach it; kept for them, used by none of ours.
    slack_enabled = models.BooleanField(default=False)
    slack_slug = models.CharField(max_length=100, null=True)  # noqa: DJ001  # null: has none
    slack_senders = models.JSONField(null=True)
    imessage_enabled = models.BooleanField(default=False)
    imessage_chat = models.CharField(max_length=255, null=True)  # noqa: DJ001
    imessage_senders = models.JSONField(null=True)
    max_running = models.PositiveIntegerField(default=100)
    archived_at = models.DateTimeField(null=True)

    objects = TeammateQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("organization", "key", name="teammate_key_once"),
            models.CheckConstraint(
                condition=models.Q(status__in=TeammateStatus.values), name="teammate_status_known"
            ),
            models.CheckConstraint(
                condition=iff(
                    models.Q(status=TeammateStatus.ARCHIVED), models.Q(archived_at__isnull=False)
                ),
                name="teammate_archived_at_iff_archived",
            ),
            models.CheckConstraint(
                condition=models.Q(visibility__in=Visibility.values),
                name="teammate_visibility_known",
            ),
            models.UniqueConstraint("organization", "slack_slug", name="teammate_slack_slug_once"),
            models.UniqueConstraint(
                "organization", "imessage_chat", name="teammate_imessage_chat_once"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["organization", "-id"], name="teammate_list"),
            models.Index(
                fields=["inbox_name"], name="teammate_inbox", condition=~models.Q(inbox_name="")
            ),
            models.Index(
                fields=["fetchmail_name"],
                name="teammate_mailbox",
                condition=~models.Q(fetchmail_name=""),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("runs:teammate_detail", args=[self.pk])

    @property
    def is_archived(self) -> bool:
        return self.status == TeammateStatus.ARCHIVED

    @property
    def is_enabled(self) -> bool:
        return self.status == TeammateStatus.ENABLED

    @property
    def fetchmail_address(self) -> str | None:
        return f"{self.fetchmail_name}@{settings.MAIL_DOMAIN}" if self.fetchmail_name else None

    @property
    def current_version(self) -> "TeammateVersion":
        assert self.version is not None, "roster.py gives every teammate a version"
        return self.version


class TeammateVersion(models.Model):
    """What a teammate is told and may do. Never changed: an edit makes the next number."""

    teammate = models.ForeignKey(Teammate, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    role = models.TextField(blank=True, default="")
    goals = models.TextField(blank=True, default="")
    instructions = models.TextField(blank=True, default="")
    model = models.CharField(max_length=200, blank=True, default="")  # an alias; empty: default
    effort = models.CharField(max_length=10, blank=True, default="", choices=Effort.choices)
    sampling = models.JSONField(default=dict, db_default={})  # `teammates/llm/sampling.py`
    permission_mode = models.CharField(
        max_length=10, choices=PermissionMode.choices, default=PermissionMode.AUTONOMOUS
    )
    tools = models.JSONField(default=list)
    disabled_tools = models.JSONField(default=list)
    # None: the platform's default, which is on.
    memory = models.BooleanField(null=True)
    history = models.BooleanField(null=True)
    task_setup_tools = models.BooleanField(null=True)
    feedback = models.BooleanField(null=True)
    self_improvement = models.BooleanField(null=True)
    prompt_profile = models.CharField(
        max_length=8, choices=PromptProfile.choices, default=PromptProfile.PLATFORM
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("teammate", "number", name="teammate_version_once"),
            models.CheckConstraint(
                condition=models.Q(permission_mode__in=PermissionMode.values),
                name="teammate_version_mode_known",
            ),
            models.CheckConstraint(
                condition=models.Q(effort__in=["", *Effort.values]),
                name="teammate_version_effort_known",
            ),
            models.CheckConstraint(
                condition=models.Q(prompt_profile__in=PromptProfile.values),
                name="teammate_version_profile_known",
            ),
        ]

    def __str__(self) -> str:
        return f"v{self.number}"
