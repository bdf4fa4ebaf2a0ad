"""Compiled queries of what exists for the asker: a statement per kind of access."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from django.db import models

from config.compiled import CompiledQuery, Hole
from teammates.access import Access
from teammates.models import Role

Row = TypeVar("Row")
QUERIES: "list[ScopedQuery[Any]]" = []  # for the test that holds them to Django's


class Kind(NamedTuple):
    """What decides on the conditions of a scope, apart from their values."""

    manages: bool  # owners and admins see all, others their own
    has_end_user: bool


class RowHole(Hole):
    """Where the id of a row of the access goes."""

    @property
    def pk(self) -> Hole:
        return self


@dataclass(frozen=True)
class _Recording(Access):
    """An access of a kind, which notes what it takes to ask so."""

    asked: set[str] = field(default_factory=set, compare=False)

    def require(self, permission: str, *rows: models.Model) -> None:
        self.asked.add(permission)


class ScopedQuery(Generic[Row]):
    """A function of an access that returns a queryset, compiled.

    Its further arguments are holes, as those of `CompiledQuery`. Raises what the scope raises.
    """

    def __init__(self, build: "Callable[..., models.QuerySet[Any, Row]]") -> None:
        self.build = build
        self.names = list(inspect.signature(build).parameters)[1:]
        self._by_kind: dict[Kind, CompiledQuery[Row]] = {}
        self._permissions: set[str] = set()
        # One now, so that what cannot be compiled is refused here; the others when they are needed.
        manager = self._compiled(Kind(manages=True, has_end_user=False))
        self.model = manager.model

    def all(self, access: Access, **values: object) -> list[Row]:
        """The rows that exist for the asker. Raises `Forbidden`."""
        kind = _kind_of(access)
        if kind is None:
            return list(self.build(access, **values))
        for permission in self._permissions:
            access.require(permission)
        return self._compiled(kind).all(**values, **_values_of(access, kind))

    def first(self, access: Access, **values: object) -> Row | None:
        """The first of them. Adds no `LIMIT`. Raises `Forbidden`."""
        return next(iter(self.all(access, **values)), None)

    def _compiled(self, kind: Kind) -> CompiledQuery[Row]:
        if kind not in self._by_kind:
            holes: Any = {name: RowHole(name) for name in _names_of(kind)}
            access = _Recording(
                organization=holes["organization_id"],
                role=Role.OWNER if kind.manages else Role.MEMBER,
                user=holes.get("user_id"),
                end_user=holes.get("end_user_id"),
            )
            build = functools.wraps(self.build)(functools.partial(self._build_for, access))
            self._by_kind[kind] = CompiledQuery(build, [*self.names, *_names_of(kind)])
            self._permissions |= access.asked
        return self._by_kind[kind]

    def _build_for(self, access: Access, **holes: Hole) -> "models.QuerySet[Any, Row]":
        return self.build(access, **{name: holes[name] for name in self.names})


def _kind_of(access: Access) -> Kind | None:
    """None for those that are not worth it: words from outside, keys of nobody, end users that
    were never seen."""
    manages = access.role in (Role.OWNER, Role.ADMIN)
    is_new = access.end_user is not None and access.end_user.pk is None
    if access.origin or is_new or (access.user is None and not manages):
        return None
    return Kind(manages, access.end_user is not None)


def _names_of(kind: Kind) -> list[str]:
    names = ["organization_id"]
    if not kind.manages:
        names.append("user_id")
    if kind.has_end_user:
        names.append("end_user_id")
    return names


def _values_of(access: Access, kind: Kind) -> dict[str, Any]:
    rows: Any = {
        "organization_id": access.organization,
        "user_id": access.user,
        "end_user_id": access.end_user,
    }
    return {name: rows[name].pk for name in _names_of(kind)}


def scoped_query(build: "Callable[..., models.QuerySet[Any, Row]]") -> ScopedQuery[Row]:
    """Decorate a function of an access that returns a queryset (`ScopedQuery`)."""
    query = ScopedQuery(build)
    QUERIES.append(query)
    return query
