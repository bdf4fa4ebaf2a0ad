"""Requests that are answered once."""

from typing import ClassVar

from django.db import models

from runs.models.run import Run
from teammates.models import (
    Organization,
)


class IdempotencyKey(models.Model):
    """A client's name for one create: at most one run ever comes of it."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="idempotency_keys"
    )
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="idempotency_keys")
    claimed_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("organization", "key", name="idempotency_key_once"),
        ]

    def __str__(self) -> str:
        return self.key
