"""Files of runs that were kept on purpose: they can be found and shared by themselves."""

from typing import ClassVar

from django.db import models

from runs.models.run import Run
from teammates.fields import Named
from teammates.models import EndUser, Organization
from teammates.models.scoped import ScopedQuerySet
from threads.models import File


class Artifact(Named):
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="artifacts"
    )
    end_user = models.ForeignKey(
        EndUser, null=True, on_delete=models.PROTECT, related_name="artifacts"
    )
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="artifacts")
    file = models.ForeignKey(File, on_delete=models.CASCADE, related_name="artifacts")
    name = models.CharField(max_length=255)
    share_nonce = models.CharField(max_length=32, blank=True, default="")  # empty: not shared

    objects = ScopedQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("run", "name", name="artifact_once_per_file"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["organization", "end_user", "-id"], name="artifact_list"),
        ]

    def __str__(self) -> str:
        return self.name
