"""Vectors of passages, and the model that makes them."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models

from teammates.fields import RealField
from teammates.models.knowledge import Passage
from teammates.models.people import Organization
from teammates.models.provider import Provider


class EmbeddingModel(models.Model):
    """What makes vectors of an organization's passages. Without a row, searches go by words alone.

    Another model's vectors cannot be compared with these: choosing one makes another row.
    """

    organization = models.OneToOneField(
        Organization, on_delete=models.CASCADE, related_name="embedding_model"
    )
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=200)
    # When passages without a vector are looked for; whoever claims it moves it on.
    due_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=300, blank=True, default="")
    failures = models.PositiveSmallIntegerField(default=0)  # in a row
    tokens = models.BigIntegerField(default=0)  # that passages and searches took
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["due_at"],
                condition=models.Q(due_at__isnull=False),
                name="embedding_model_due",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.provider}"


class PassageVector(models.Model):
    """Where a passage is among the meanings of texts. Plain numbers, so that a PostgreSQL without
    pgvector has the same schema; searches cast them."""

    passage = models.OneToOneField(
        Passage, primary_key=True, on_delete=models.CASCADE, related_name="vector"
    )
    model = models.ForeignKey(EmbeddingModel, on_delete=models.CASCADE, related_name="vectors")
    numbers = ArrayField(RealField())  # empty: the model refused the passage

    def __str__(self) -> str:
        return f"the vector of {self.passage}"
