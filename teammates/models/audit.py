"""Who asked for what and changed what, through which door, and how it ended."""

from typing import ClassVar

from django.db import models

from teammates.models.people import EndUser, Organization, User


class AuditEntry(models.Model):
    """A request of a program or a person, or a change that a verb made (without a method). Bodies
    and answers are not kept; of a change, what was and what is, without secrets."""

    id = models.BigAutoField(primary_key=True)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="audit_entries"
    )
    user = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    # Whose affairs a change was in: what it says goes when they are erased.
    end_user = models.ForeignKey(EndUser, null=True, on_delete=models.SET_NULL, related_name="+")
    key_prefix = models.CharField(max_length=16, blank=True, default="")  # empty: a session
    # `Client` of the request; empty: Muster itself, or whoever runs its machine.
    door = models.CharField(max_length=10, blank=True, default="")
    address = models.CharField(max_length=45, blank=True, default="")
    agent = models.CharField(max_length=200, blank=True, default="")
    method = models.CharField(max_length=10, blank=True, default="")  # empty: a change
    path = models.CharField(max_length=500, blank=True, default="")
    subject = models.CharField(max_length=200, blank=True, default="")  # what was changed, by name
    changes = models.JSONField(null=True)  # field: [before, after]
    action = models.CharField(max_length=100, blank=True, default="")
    resource_type = models.CharField(max_length=50, blank=True, default="")
    resource_id = models.CharField(max_length=255, blank=True, default="")
    status = models.PositiveSmallIntegerField(default=200)
    duration_ms = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["organization", "-id"], name="audit_list"),
            models.Index(
                fields=["organization", "resource_type", "-id"], name="audit_list_resource"
            ),
            models.Index(
                fields=["organization", "-id"],
                name="audit_list_sessions",
                condition=models.Q(key_prefix=""),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path}: {self.status}" if self.method else self.action

    @property
    def is_change(self) -> bool:
        return not self.method
