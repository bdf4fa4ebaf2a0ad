"""Whom Muster tells of runs: endpoints of other systems, and what was sent to them."""

from typing import ClassVar, Self

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.urls import reverse

from runs.models.run import Run
from teammates.fields import EncryptedField, Identified, iff
from teammates.models import EndUser, Organization
from teammates.models.scoped import ScopedQuerySet


class Dialect(models.TextChoices):
    """Whose contract says how a delivery looks and how it is signed."""

    TEAMMATES = "v2", "Teammates API (v2)"
    THREADS = "v1", "Threads API (v1)"


class EndpointPauseReason(models.TextChoices):
    """Why an endpoint was paused by itself."""

    FAILURES = "failures", "it answered nothing for a day"
    GONE = "gone", "it said that it is gone (410)"


class WebhookEndpointQuerySet(ScopedQuerySet):
    def current(self) -> Self:
        """Those that were not removed."""
        return self.filter(deleted_at=None)

    def subscribed(self) -> Self:
        """Those whose events are written down: of one that was paused by itself, to be sent when it
        is resumed."""
        return self.current().filter(models.Q(active=True) | ~models.Q(rests_because=""))


class WebhookEndpoint(Identified):
    """Gets the events of its scope's runs: one end user's, or the account's own."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="webhook_endpoints"
    )
    end_user = models.ForeignKey(
        EndUser, null=True, on_delete=models.CASCADE, related_name="webhook_endpoints"
    )
    url = models.CharField(max_length=2000)
    events = models.JSONField(default=list)
    description = models.CharField(max_length=200, blank=True, default="")
    dialect = models.CharField(max_length=2, choices=Dialect.choices, default=Dialect.TEAMMATES)
    secret = EncryptedField()
    # The one before it, which is still good for a while.
    old_secret = EncryptedField(blank=True, default="")
    old_secret_until = models.DateTimeField(null=True)
    active = models.BooleanField(default=True)
    failing_since = models.DateTimeField(null=True)  # no delivery has succeeded since
    rests_because = models.CharField(
        max_length=8, choices=EndpointPauseReason.choices, blank=True, default=""
    )

    # Removed: nobody sees it. Its rows go later, when no run can be writing to it any more.
    deleted_at = models.DateTimeField(null=True)

    objects = WebhookEndpointQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(dialect__in=Dialect.values), name="webhook_dialect_known"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["organization", "end_user", "-id"], name="webhook_list"),
        ]

    def __str__(self) -> str:
        return self.url

    def get_absolute_url(self) -> str:
        return reverse("runs:webhook_detail", args=[self.pk])


class DeliveryStatus(models.TextChoices):
    PENDING = "pending", "Waiting"
    SUCCESS = "success", "Delivered"
    FAILED = "failed", "Given up"


class WebhookDelivery(models.Model):
    """One event for one endpoint, however often it was tried. A test is of no run."""

    id = models.BigAutoField(primary_key=True)
    endpoint = models.ForeignKey(
        WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries", db_index=False
    )
    run = models.ForeignKey(Run, null=True, on_delete=models.CASCADE, related_name="deliveries")
    event_type = models.CharField(max_length=50)
    event_id = models.CharField(max_length=50)
    body = models.TextField(blank=True, default="")  # as it is signed and sent
    status = models.CharField(
        max_length=7, choices=DeliveryStatus.choices, default=DeliveryStatus.PENDING
    )
    attempts = models.PositiveSmallIntegerField(default=0)
    tries = models.PositiveSmallIntegerField(default=0)  # attempts since it was last asked for
    next_retry_at = models.DateTimeField(null=True)
    response_status = models.PositiveSmallIntegerField(null=True)
    response_body = models.TextField(blank=True, default="")
    took_ms = models.PositiveIntegerField(null=True)
    error = models.CharField(max_length=500, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("endpoint", "event_id", name="delivery_once_per_event"),
            models.CheckConstraint(
                condition=models.Q(status__in=DeliveryStatus.values), name="delivery_status_known"
            ),
            models.CheckConstraint(
                condition=iff(
                    models.Q(status=DeliveryStatus.PENDING), models.Q(next_retry_at__isnull=False)
                ),
                name="delivery_time_iff_pending",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["endpoint", "-id"], name="delivery_list"),
            BrinIndex(fields=["created_at"], name="delivery_age"),
            models.Index(
                fields=["endpoint", "next_retry_at", "id"],
                name="delivery_due",
                condition=models.Q(status=DeliveryStatus.PENDING),
            ),
            # Tests, which go to a paused endpoint too.
            models.Index(
                fields=["endpoint"],
                name="delivery_test",
                condition=models.Q(status=DeliveryStatus.PENDING, run=None),
            ),
            # What of its run is still ahead of it.
            models.Index(
                fields=["endpoint", "run", "id"],
                name="delivery_order",
                condition=models.Q(status=DeliveryStatus.PENDING),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} to {self.endpoint_id}"


class DeliveryAttempt(models.Model):
    """One request, and how it was answered."""

    id = models.BigAutoField(primary_key=True)
    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="log")
    at = models.DateTimeField()
    took_ms = models.PositiveIntegerField()
    request_headers = models.JSONField(default=dict)
    response_status = models.PositiveSmallIntegerField(null=True)
    response_headers = models.JSONField(default=dict)
    response_body = models.TextField(blank=True, default="")
    error = models.CharField(max_length=500, blank=True, default="")

    def __str__(self) -> str:
        return f"attempt {self.pk} at {self.delivery_id}"
