"""Querysets whose SQL is built once give what Django gives, or are refused when they are made."""

import copy
from typing import Any

import pytest
from django.db import models
from django.utils import timezone

from config.compiled import QUERIES, CompiledInsert, NotCompilable, compiled
from runs.creation.options import Options
from runs.models import Run, Task
from runs.queries.thread_lists import LATEST
from teammates import scoped_query
from teammates.access import Access
from teammates.fields import new_uid
from teammates.models import Model, Organization, Teammate
from teammates.searching import words_of
from tests.factories import make_key, make_run, make_thread
from tests.runs.execution.calling import SCHEMA
from threads.models import Message, Thread


def test_rows_have_their_columns_and_related_objects(alice: Access) -> None:
    run = make_run(alice, message="hello")

    @compiled
    def runs_of(organization: Any, pk: Any) -> "models.QuerySet[Run]":
        runs = Run.objects.filter(organization=organization, pk=pk)
        return runs.select_related("thread", "teammate__version", "end_user", "prompt")

    found = runs_of.all(organization=alice.organization.pk, pk=run.pk)
    assert [one.pk for one in found] == [run.pk]
    assert found[0].prompt is not None
    assert found[0].prompt.content == "hello"
    assert found[0].end_user is None
    assert found[0].teammate.current_version == run.teammate_version
    assert found[0].uid == run.uid
    assert not found[0]._state.adding


def test_related_objects_cost_no_statement(alice: Access, django_assert_num_queries: Any) -> None:
    make_run(alice)

    @compiled
    def all_of(organization: Any) -> "models.QuerySet[Run]":
        return Run.objects.filter(organization=organization).select_related("thread__organization")

    with django_assert_num_queries(1):
        run = all_of.first(organization=alice.organization.pk)
        assert run is not None
        assert run.thread.organization == alice.organization


def test_a_value_may_go_into_several_holes_and_annotations_are_there(alice: Access) -> None:
    thread = make_thread(alice, title="Spring")

    @compiled
    def named(title: Any, organization: Any) -> "models.QuerySet[Thread]":
        same = Organization.objects.filter(pk=organization)
        threads = Thread.objects.filter(title=title, organization=organization)
        return threads.annotate(is_known=models.Exists(same), said=models.F("title")).defer("title")

    found = named.first(title="Spring", organization=alice.organization.pk)
    assert found is not None
    assert (found.pk, found.is_known, found.said) == (thread.pk, True, "Spring")  # type: ignore[attr-defined]
    assert found.get_deferred_fields() == {"title"}
    assert named.first(title="Autumn", organization=alice.organization.pk) is None


def test_what_never_changes_is_written_into_the_statement(alice: Access) -> None:
    """Or a plan that PostgreSQL keeps for all calls knows of no index of some of the rows."""
    thread = make_thread(alice, title="100 % 'sure' \\")

    @compiled
    def titled(organization: Any) -> "models.QuerySet[Thread]":
        threads = Thread.objects.filter(organization=organization, title__startswith="100 % 'su")
        return threads.annotate(n=models.Value(-7), said=models.Value("50 %s"))

    assert "%s" not in titled.statement.replace("%%s", "").replace('"organization_id" = (%s)', "")
    [found] = titled.all(organization=alice.organization.pk)
    assert (found.pk, found.n, found.said) == (thread.pk, -7, "50 %s")  # type: ignore[attr-defined]


def test_values_lists_and_converted_columns(alice: Access) -> None:
    thread = make_thread(alice)

    @compiled
    def ids_of(organization: Any) -> "models.QuerySet[Thread, int]":
        return Thread.objects.filter(organization=organization).values_list("pk", flat=True)

    @compiled
    def pairs_of(organization: Any) -> "models.QuerySet[Thread, Any]":
        return Thread.objects.filter(organization=organization).values_list("pk", "uid")

    assert ids_of.all(organization=alice.organization.pk) == [thread.pk]
    assert pairs_of.all(organization=alice.organization.pk) == [(thread.pk, thread.uid)]


def test_what_is_not_one_kept_statement_is_refused_when_it_is_made(alice: Access) -> None:
    refused: list[tuple[Any, str]] = [
        (lambda pk: Run.objects.filter(pk=pk).values("pk"), "ValuesIterable"),
        (lambda pk: Run.objects.filter(pk=pk).prefetch_related("steps"), "prefetch_related"),
        (lambda pk: alice.organization.runs.filter(pk=pk), "related manager"),
        (lambda pk: Run.objects.filter(pk=pk).union(Run.objects.all()), "union"),
        (lambda pk: Run.objects.filter(pk=pk).none(), "no rows"),
        (lambda pk: Run.objects.filter(status="queued"), "does not use pk"),
    ]
    for build, why in refused:
        with pytest.raises(NotCompilable, match=why):
            compiled(build)


def test_values_are_named_and_never_none() -> None:
    @compiled
    def by_pk(pk: Any) -> "models.QuerySet[Teammate]":
        return Teammate.objects.filter(pk=pk)

    for values in ({}, {"pk": None}, {"pk": 1, "uid": 2}):
        with pytest.raises(TypeError, match="takes pk"):
            by_pk.all(**values)


def test_an_inserted_row_is_the_one_that_django_saves(alice: Access) -> None:
    thread = make_thread(alice)
    for row in (
        Thread(organization=alice.organization, created_by=alice.user, title="Spring «é» ' \\"),
        Message(thread=thread, role="user", content="two\nlines"),
    ):
        model = type(row)
        twin = copy.copy(row)
        twin.uid = new_uid()
        CompiledInsert(model).save(row)
        twin.save(force_insert=True)
        saved, wanted = (model.objects.filter(pk=one.pk).values().get() for one in (row, twin))
        for name in ("id", "uid", "created_at", "updated_at"):
            saved.pop(name, None)
            wanted.pop(name, None)
        assert saved == wanted
        assert not row._state.adding
        row.refresh_from_db()


def test_an_insert_has_json_and_decimals_and_times(alice: Access) -> None:
    run = make_run(alice, options=Options(metadata={"a": [1, {"b": None}]}, output_schema=SCHEMA))
    found = Run.objects.get(pk=run.pk)
    assert found.metadata == {"a": [1, {"b": None}]}
    assert found.output_schema == SCHEMA
    assert (found.created_at, found.task_id) == (run.created_at, run.task_id)
    assert found.available_at == run.available_at
    assert Task.objects.get(pk=run.task_id).is_ad_hoc


# --- every one that Muster has -------------------------------------------------------------------
def _ours(queries: list[Any]) -> list[Any]:
    import config.urls  # noqa: F401  # everything that makes one
    import runs.runtime  # noqa: F401

    return [query for query in queries if not query.build.__module__.startswith("tests.")]


def _values(query: Any, names: Any, run: Run) -> dict[str, Any]:
    """What goes into the holes of a query, about one run and what belongs to it."""
    row: Any = {Run: run, Thread: run.thread, Teammate: run.teammate}.get(query.model)
    values = {
        "organization_id": run.organization_id,
        "hash": _key.hash if (_key := run.organization.api_keys.first()) else None,
        "thread_id": run.thread_id,
        "alias": "demo",
        "end_user_id": 0,
        "preferred": run.teammate_id,
        "prompt_id": run.prompt_id,
        "fence": run.fence,
        "model_ids": list(Model.objects.values_list("pk", flat=True)),
        "at": timezone.now(),
        "first": [run.teammate_id],
        "run_ids": [run.pk],
        "teammate_ids": [run.teammate_id],
        "pk": row and row.pk,
        "uid": row and row.uid,
        "person_id": run.created_by_id,
        "of_end_user": 0,
        "account_id": run.organization_id,
        "message_ids": [run.prompt_id],
        "since": run.created_at,
        "until": LATEST,
        "below": 0,
        "words": words_of("hello"),
        "name": "demo",
    }
    return {name: values[name] for name in names}


def _same(compiled_rows: list[Any], rows: list[Any]) -> None:
    """The same rows, with the same columns, annotations and related objects."""
    assert [_content(row) for row in compiled_rows] == [_content(row) for row in rows]


def _content(row: Any) -> Any:
    if not isinstance(row, models.Model):
        return row
    kept = {name: value for name, value in vars(row).items() if name != "_state"}
    related = row._state.fields_cache
    return kept, {name: _content(one) for name, one in related.items() if not _is_behind(one, row)}


def _is_behind(one: Any, row: Any) -> bool:
    """Whether it is the other end of the relation over which the row was reached."""
    return one is None or row in one._state.fields_cache.values()


def test_every_compiled_query_gives_what_django_gives(alice: Access) -> None:
    make_key(alice)
    run = make_run(alice, message="hello", status="completed")
    for query in _ours(QUERIES):
        values = _values(query, query.holes, run)
        ordinary = query.build(**values)
        sql = ordinary.query.sql_with_params()[0]
        assert query.sql.replace("(%s)", "%s") == sql.replace("(%s)", "%s"), query.name
        _same(query.all(**values), list(ordinary))


def test_every_scoped_query_gives_what_django_gives(alice: Access, bob: Access) -> None:
    for access in (alice, bob):
        run = make_run(access, message="hello", status="completed")
        for query in _ours(scoped_query.QUERIES):
            values = _values(query, query.names, run)
            _same(query.all(access, **values), list(query.build(access, **values)))
