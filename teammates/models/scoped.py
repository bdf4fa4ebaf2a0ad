"""Whose rows are: of one end user or the account itself, and of the member who made them."""

from typing import TYPE_CHECKING, Any, Self, TypeVar

from django.db import models

from teammates.models.people import User

if TYPE_CHECKING:
    from teammates.access import Access

M = TypeVar("M", bound=models.Model, covariant=True)


class ScopedQuerySet(models.QuerySet[Any]):
    def visible_to(self, access: "Access") -> Self:
        """Those of exactly one scope: the named end user's, or the account's own."""
        return access.exact_scope(self)


class OwnedQuerySet(models.QuerySet[M]):
    def visible_to(self, access: "Access") -> Self:
        """Those that exist for the asker (`Access.scope`)."""
        return access.scope(self)

    def of_member(self, user: User | None) -> Self:
        """Those that exist for a member who manages nothing: their own."""
        return self.filter(created_by=user)


class Owned(models.Model):
    """A row that exists for the member who made it, for admins, and in one end user's scope."""

    organization_id: int
    end_user_id: int | None
    created_by_id: int | None

    class Meta:
        abstract = True
