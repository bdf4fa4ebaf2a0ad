"""Credentials that programs send. Only hashes are stored."""

from typing import ClassVar

from django.db import models
from django.utils import timezone

from teammates.fields import Identified
from teammates.models.people import Organization, User


class APIKey(Identified):
    """A key of an organization. It may do what its creator may; with scopes, of that only those."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="api_keys"
    )
    created_by = models.ForeignKey(
        User, null=True, on_delete=models.SET_NULL, related_name="api_keys"
    )
    name = models.CharField(max_length=200)
    prefix = models.CharField(max_length=16)
    hash = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    # The key that made this one: a child ends with it, and may do no more.
    parent = models.ForeignKey(
        "self", null=True, on_delete=models.SET_NULL, related_name="children"
    )
    # Made by the first start, before there was a person: acts as an admin.
    is_organizations = models.BooleanField(default=False)
    # v2 has one default key beside the named ones.
    is_default = models.BooleanField(default=False)
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "organization",
                name="api_key_one_default",
                condition=models.Q(is_default=True, revoked_at=None),
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["organization", "-id"], name="api_key_list"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def is_valid(self) -> bool:
        return self.revoked_at is None and (
            self.expires_at is None or self.expires_at > timezone.now()
        )


class RefreshToken(models.Model):
    """One sign-in of a program: its session. The secret is used once, then replaced."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="refresh_tokens")
    organization = models.ForeignKey(
        Organization, null=True, on_delete=models.CASCADE, related_name="+"
    )  # None: of a session from before it was kept
    hash = models.CharField(max_length=64, unique=True)
    # The secret before this one, and since when it is used up: who comes with it later stole it,
    # or was stolen from.
    used_hash = models.CharField(max_length=64, blank=True, default="", db_index=True)
    renewed_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"sign-in of {self.user_id}"
