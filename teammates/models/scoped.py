"""Rows that belong to one end user, or to the account itself, and never to both."""

from typing import TYPE_CHECKING, Any, Self

from django.db import models

if TYPE_CHECKING:
    from teammates.access import Access


class ScopedQuerySet(models.QuerySet[Any]):
    def visible_to(self, access: "Access") -> Self:
        """Those of exactly one scope: the named end user's, or the account's own."""
        return access.exact_scope(self)
