"""Whom Muster tells of runs: endpoints of other systems, and what was sent to them."""

from typing import ClassVar

from django.db import models

from runs.models.run import Run
from teammates.fields import EncryptedField, Named
from teammates.models import EndUser, Organization
from teammates.models.scoped import ScopedQuerySet


class WebhookEndpoint(Named):
    """Gets the events of its scope's runs: one end user's, or the account's own."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="webhook_endpoints"
    )
    end_user = models.ForeignKey(
        EndUser, null=True, on_delete=models.CASCADE, related_name="webhook_endpoints"
    )
    url = models.CharField(max_length=2000)
    events = models.JSONField(default=list)
    secret = EncryptedField()
    active = models.BooleanField(default=True)

    objects = ScopedQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["organization", "end_user", "-id"], name="webhook_list"),
        ]

    def __str__(self) -> str:
        return self.url


class DeliveryStatus(models.TextChoices):
    PENDING = "pending", "Waiting"
    SUCCESS = "success", "Delivered"
    FAILED = "failed", "Given up"


class WebhookDelivery(models.Model):
    """One event for one endpoint, however often it was tried."""

    id = models.BigAutoField(primary_key=True)
    endpoint = models.ForeignKey(
        WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries"
    )
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="deliveries")
    event_type = models.CharField(max_length=50)
    event_id = models.CharField(max_length=50)
    status = models.CharField(
        max_length=7, choices=DeliveryStatus.choices, default=DeliveryStatus.PENDING
    )
    attempts = models.PositiveSmallIntegerField(default=0)
    next_retry_at = models.DateTimeField(null=True)
    response_status = models.PositiveSmallIntegerField(null=True)
    response_body = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("endpoint", "event_id", name="delivery_once_per_event"),
            models.CheckConstraint(
                condition=models.Q(status__in=DeliveryStatus.values), name="delivery_status_known"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["endpoint", "-id"], name="delivery_list")]

    def __str__(self) -> str:
        return f"{self.event_type} to {self.endpoint_id}"
