"""Where an organization's teammates search the web."""

from typing import ClassVar

from django.db import models

from teammates.fields import EncryptedField
from teammates.models.people import Organization
from teammates.tools.search import ENGINES, SearchConnection


class WebSearch(models.Model):
    """An engine with its key. Without a row, nobody searches."""

    organization = models.OneToOneField(
        Organization, on_delete=models.CASCADE, related_name="web_search"
    )
    kind = models.CharField(
        max_length=20, choices=[(name, engine.label) for name, engine in ENGINES.items()]
    )
    api_key = EncryptedField(blank=True, default="")
    address = models.CharField(max_length=500, blank=True, default="")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(kind__in=list(ENGINES)), name="web_search_kind_known"
            ),
        ]

    def __str__(self) -> str:
        return str(self.get_kind_display())

    @property
    def connection(self) -> SearchConnection:
        may_be_private = self.organization.reaches_private_addresses
        return SearchConnection(self.kind, self.api_key, self.address, may_be_private)
