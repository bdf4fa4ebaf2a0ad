"""Files of runs that were kept on purpose: they can be found and shared by themselves."""

from typing import TYPE_CHECKING, ClassVar, Self

from django.db import models

from runs.models.run import Run
from runs.models.shareable import Shareable
from teammates.fields import Identified
from teammates.models import EndUser, Organization
from teammates.models.scoped import ScopedQuerySet
from threads.models import File

if TYPE_CHECKING:
    from teammates.access import Access


class ArtifactQuerySet(ScopedQuerySet):
    def visible_to(self, access: "Access") -> Self:
        return super().visible_to(access).filter(run__thread__deleted_at=None)


class Artifact(Identified, Shareable):
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="artifacts"
    )
    end_user = models.ForeignKey(
        EndUser, null=True, on_delete=models.PROTECT, related_name="artifacts"
    )
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="artifacts")
    file = models.ForeignKey(File, on_delete=models.CASCADE, related_name="artifacts")
    name = models.CharField(max_length=255)

    objects = ArtifactQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("run", "name", name="artifact_once_per_file"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["organization", "end_user", "-id"], name="artifact_list"),
        ]

    def __str__(self) -> str:
        return self.name
