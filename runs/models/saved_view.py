"""Saved views of the list of runs."""

from typing import TYPE_CHECKING, ClassVar

from django.db import models

from teammates.models import (
    Organization,
    User,
)

if TYPE_CHECKING:
    pass


class RunView(models.Model):
    """A query of the list of runs that somebody keeps under a name."""

    id = models.BigAutoField(primary_key=True)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="run_views"
    )
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="run_views")
    name = models.CharField(max_length=100)
    query = models.CharField(max_length=1000, blank=True)
    is_shared = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("organization", "user", "name", name="run_view_once"),
        ]

    def __str__(self) -> str:
        return self.name
