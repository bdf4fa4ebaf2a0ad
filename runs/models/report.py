"""What teammates report about Muster itself (`report_issue`)."""

from typing import ClassVar

from django.db import models

from runs.models.run import Run
from teammates.fields import Identified
from teammates.models import Organization, User


class Report(Identified):
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="reports")
    # None: a person's or a program's report about Muster as such.
    run = models.ForeignKey(Run, null=True, on_delete=models.CASCADE, related_name="reports")
    title = models.CharField(max_length=100)
    message = models.TextField()
    severity = models.CharField(max_length=6, default="medium")
    closed_at = models.DateTimeField(null=True)
    closed_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        indexes: ClassVar = [models.Index(fields=["organization", "-id"], name="report_list")]

    def __str__(self) -> str:
        return self.title
