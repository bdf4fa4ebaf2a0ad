"""Querysets whose SQL is built once.

Django puts a statement together anew for each call, which for a hot one costs several times what
PostgreSQL needs to answer it. Here that is done once, when the module with the query is imported;
a call fills in its values, and Django's own iterables make the same instances of the same rows.
"""

import copy
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.models.query import FlatValuesListIterable, ModelIterable, ValuesListIterable
from django.db.transaction import TransactionManagementError
from psycopg.sql import quote

from teammates.text import json_text

Row = TypeVar("Row")
M = TypeVar("M", bound=models.Model)
QUERIES: "list[CompiledQuery[Any]]" = []  # for the test that holds them to Django's
Internal = Any  # of Django, whose stubs do not describe it
ITERABLES = (ModelIterable, ValuesListIterable, FlatValuesListIterable)


@models.Field.register_lookup
class AnyOf(models.Lookup):
    """`pk__any=[…]`: one parameter however many there are, as `pk__in` has one each."""

    lookup_name = "any"
    prepare_rhs = False

    def as_sql(self, compiler: Internal, connection: Internal) -> tuple[str, Internal]:
        left, left_values = self.process_lhs(compiler, connection)
        is_list = isinstance(self.rhs, list)
        right, right_values = ("%s", [self.rhs]) if is_list else compiler.compile(self.rhs)
        return f"{left} = ANY({right})", [*left_values, *right_values]


class NotCompilable(TypeError):
    """The queryset is not one kept statement; the message says why."""


class Hole(models.Expression):
    """Where a call's value goes. Among the parameters of the statement it stands for itself."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def as_sql(self, compiler: Internal, connection: Internal) -> tuple[str, Internal]:
        return "%s", [self]


class CompiledQuery(Generic[Row]):
    """A function that returns a queryset, compiled.

    Its arguments are holes. A call names them; none may be None, because SQL says `IS NULL` where
    Django was given None. Raises `NotCompilable` when it is made.
    """

    def __init__(
        self, build: "Callable[..., models.QuerySet[Internal, Row]]", holes: Iterable[str] = ()
    ) -> None:
        self.build = build
        self.name = f"{build.__module__}.{build.__qualname__}"
        self.holes = frozenset(holes or inspect.signature(build).parameters)
        self.queryset: Internal = build(**{name: Hole(name) for name in self.holes})
        self.model = self.queryset.model
        if why := _why_not(self.queryset):
            raise NotCompilable(f"{self.name} cannot be compiled: {why}.")
        self._locks = self.queryset.query.select_for_update
        self._compiler = self.queryset.query.get_compiler(connection=_InTransaction())
        try:
            self.sql, parameters = self._compiler.as_sql()
        except EmptyResultSet:
            raise NotCompilable(f"{self.name} cannot be compiled: it has no rows.") from None
        self.statement, self._parameters = _with_constants(self.sql, parameters)
        filled = {parameter.name for parameter in self._parameters if isinstance(parameter, Hole)}
        if unused := sorted(self.holes - filled):
            raise NotCompilable(f"{self.name} does not use {', '.join(unused)}.")
        columns = [column for column, _, _ in self._compiler.select]
        self._converters = self._compiler.get_converters(columns)

    def all(self, **values: object) -> list[Row]:
        """The rows, in the queryset's order."""
        if values.keys() != self.holes or None in values.values():
            raise TypeError(f"{self.name} takes {', '.join(sorted(self.holes))}; none is None.")
        rows = _Rows(self.queryset, self._compiler_of_call(values))
        found: list[Row] = list(self.queryset._iterable_class(rows))
        return found

    def first(self, **values: object) -> Row | None:
        """The first row. Adds no `LIMIT`: for what finds one, or says so itself."""
        return next(iter(self.all(**values)), None)

    def _compiler_of_call(self, values: dict[str, object]) -> Internal:
        parameters = tuple(
            values[one.name] if isinstance(one, Hole) else one for one in self._parameters
        )
        compiler: Internal = copy.copy(self._compiler)
        compiler.connection = connections[DEFAULT_DB_ALIAS]  # this thread's
        if self._locks and compiler.connection.get_autocommit():
            raise TransactionManagementError(f"{self.name} locks rows: call it in a transaction.")
        compiler.as_sql = lambda *_, **__: (self.statement, parameters)
        compiler.get_converters = lambda *_: self._converters
        return compiler


def _with_constants(sql: str, parameters: Sequence[object]) -> tuple[str, list[object]]:
    """A statement with what never changes written into it, and what is left to be filled in.

    After some calls PostgreSQL plans a prepared statement for whatever values it may have: it would
    not know that a status is the one that an index is of.
    """
    left: list[object] = []
    given = iter(parameters)
    pieces = []
    for piece in re.split(r"(%%|%s)", sql):
        if piece != "%s":
            pieces.append(piece)
            continue
        value = next(given)
        if isinstance(value, str | int | None):
            plain = str(value) if isinstance(value, str) else value  # of an enumeration
            pieces.append(quote(plain).replace("%", "%%"))
        else:
            left.append(value)
            pieces.append(piece)
    return "".join(pieces), left


def _why_not(queryset: Internal) -> str:
    """Why a queryset is not one statement that can be kept; empty if it is."""
    if queryset._iterable_class not in ITERABLES:
        return f"its rows are made by {queryset._iterable_class.__name__}"
    if queryset._prefetch_related_lookups:
        return "prefetch_related sends further statements"
    if queryset._known_related_objects:
        return "it begins at the related manager of one row"
    if queryset.query.combinator:
        return "it is a union"
    return ""


class _InTransaction:
    """A connection as `select_for_update` wants it, without connecting while modules load."""

    def get_autocommit(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Internal:
        return getattr(connections[DEFAULT_DB_ALIAS], name)


class _Rows:
    """What an iterable sees of a queryset, with the compiler of one call."""

    def __init__(self, queryset: Internal, compiler: Internal) -> None:
        self.queryset = queryset
        self._compiler = compiler
        self.query = self

    def get_compiler(self, *_: Internal, **__: Internal) -> Internal:
        return self._compiler

    def __getattr__(self, name: str) -> Internal:
        return getattr(self.queryset, name)


def compiled(build: "Callable[..., models.QuerySet[Internal, Row]]") -> CompiledQuery[Row]:
    """Decorate a function that returns a queryset (`CompiledQuery`)."""
    query = CompiledQuery(build)
    QUERIES.append(query)
    return query


class CompiledInsert(Generic[M]):
    """The `INSERT` of a model, as one parameter, called `name`: the driver takes statements of many
    apart anew each time. `expressions` are SQL for columns that get no value."""

    def __init__(self, model: type[M], name: str = "row", **expressions: str) -> None:
        self._name = name
        table = model._meta.db_table
        fields = [field for field in model._meta.concrete_fields if not field.generated]
        fields = [field for field in fields if not isinstance(field, models.AutoField)]
        fields = [field for field in fields if field.db_default is models.NOT_PROVIDED]
        self._filled = [field for field in fields if field.attname not in expressions]
        self._returned = model._meta.db_returning_fields
        self.returned = [field.column for field in self._returned]  # `take` wants their values
        columns = ", ".join(f'"{field.column}"' for field in fields)
        values = ", ".join(expressions.get(field.attname, f'"{field.column}"') for field in fields)
        returned = ", ".join(f'"{table}"."{field.column}"' for field in self._returned)
        self.sql = (
            f'INSERT INTO "{table}" ({columns}) SELECT {values} '
            f'FROM jsonb_populate_record(NULL::"{table}", %({name})s::jsonb) '
            f"RETURNING {returned}"
        )

    def value(self, row: M) -> str:
        """The parameter of the statement for a row that is not saved yet."""
        return json_text({field.column: self._prepared(field, row) for field in self._filled})

    @staticmethod
    def _prepared(field: "models.Field[Internal, Internal]", row: M) -> Internal:
        value = field.pre_save(row, add=True)
        return value if isinstance(field, models.JSONField) else field.get_prep_value(value)

    def take(self, row: M, returned: Sequence[Internal]) -> M:
        """Set what the statement returned: the row is saved."""
        for field, value in zip(self._returned, returned, strict=True):
            setattr(row, field.attname, value)
        row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS
        return row

    def save(self, row: M) -> M:
        """Insert a row, as `save(force_insert=True)` does; sends no signals."""
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(self.sql, {self._name: self.value(row)})
            return self.take(row, cursor.fetchone())
