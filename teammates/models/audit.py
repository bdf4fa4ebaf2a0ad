"""Who asked the v2 API for what, and how it ended."""

from typing import ClassVar

from django.db import models

from teammates.models.people import Organization, User


class AuditEntry(models.Model):
    """One request of a program or a session. Bodies and answers are not kept."""

    id = models.BigAutoField(primary_key=True)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="audit_entries"
    )
    user = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    key_prefix = models.CharField(max_length=16, blank=True, default="")  # empty: a session
    method = models.CharField(max_length=10)
    path = models.CharField(max_length=500)
    action = models.CharField(max_length=100, blank=True, default="")
    resource_type = models.CharField(max_length=50, blank=True, default="")
    resource_id = models.CharField(max_length=255, blank=True, default="")
    status = models.PositiveSmallIntegerField()
    duration_ms = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["organization", "-id"], name="audit_list"),
            models.Index(
                fields=["organization", "resource_type", "-id"], name="audit_list_resource"
            ),
            models.Index(
                fields=["organization", "-id"], name="audit_list_sessions",
                condition=models.Q(key_prefix=""),
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.method} {self.path}: {self.status}"
