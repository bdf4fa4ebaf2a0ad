"""How often something happened of late."""

from typing import ClassVar

from django.db import models


class LimitCount(models.Model):
    """One count of `teammates/trust/limits.py`, until its window ends."""

    name = models.CharField(max_length=64, primary_key=True)  # a hash of what and whose
    taken = models.PositiveIntegerField()
    ends_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["ends_at"], name="limit_count_ended")]

    def __str__(self) -> str:
        return f"{self.taken} until {self.ends_at}"
