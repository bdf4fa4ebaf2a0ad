"""The query bar: what it understands, what it says about the rest, and what it lets through."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from runs.lifecycle import flags
from runs.models import Run, RunStatus
from runs.queries import query_language, saved_views
from runs.queries.histogram import errors, survey
from runs.queries.query_language import parse, planned
from teammates.access import Access
from teammates.errors import Conflict, NotFound
from tests.factories import make_bob, make_gate, make_run


def found(access: Access, text: str) -> set[int]:
    runs = query_language.apply(Run.objects.visible_to(access), query_language.parse(text))
    return set(runs.values_list("pk", flat=True))


def test_names_may_look_like_ids(alice: Access, bob: Access) -> None:
    mine, others = make_run(alice), make_run(bob)
    alice.user.name = f"Bot #{bob.user.pk}"  # type: ignore[union-attr]
    alice.user.save()  # type: ignore[union-attr]
    assert found(alice, f'by:"Bot #{bob.user.pk}"') == {mine.pk, others.pk}  # type: ignore[union-attr]
    assert found(alice, f"by:Bob#{bob.user.pk}") == {others.pk}  # type: ignore[union-attr]


ODD_BUT_RIGHT = ("since:9999d", "until:0001-01-01", "on:9999-12-31", "ended:2026-01-01..")


def test_each_term_narrows_the_list(alice: Access) -> None:
    done = make_run(alice, message="refund for order 7", status=RunStatus.COMPLETED)
    failed = make_run(alice, message="refund again", status=RunStatus.FAILED)
    waiting = make_gate(alice).run
    assert found(alice, "") == {done.pk, failed.pk, waiting.pk}
    assert found(alice, "status:failed") == {failed.pk}
    assert found(alice, "status:failed,completed refund") == {done.pk, failed.pk}
    assert found(alice, "refund order") == {done.pk}
    assert found(alice, '"order 7"') == {done.pk}
    assert found(alice, "status:needs-you") == found(alice, "has:approval") == {waiting.pk}
    assert found(alice, "tool:pretend_send") == {waiting.pk}
    assert found(alice, "error:provider.rejected") == {failed.pk}
    assert found(alice, f"thread:{done.thread_id}") == {done.pk}
    assert found(alice, "by:Alice teammate:normal channel:app is:top since:1h") == found(alice, "")
    assert found(alice, "until:2020-01-01") == found(alice, "cost:>5 status:completed") == set()
    assert found(alice, "duration:<1h status:completed") == {done.pk}
    flags.set_archived(alice, done, archived=True)
    assert found(alice, "refund") == {failed.pk}
    assert found(alice, "is:archived") == {done.pk}


@pytest.mark.parametrize(
    "text",
    [
        "status:nonsense",
        "colour:red",
        "cost:>much",
        "cost:>NaN",
        "cost:1e400",
        "duration:>long",
        "since:yesterday",
        "since:9999d",
        "on:2026-13-01",
        "on:9999-12-31",
        "until:0001-01-01",
        "is:x",
        "has:x",
        "thread:x",
        "thread:²",
        "thread:99999999999999999999",
        "teammate:",
        "cost:",
        "duration:",
        "channel:pigeon",
        "tag:customer",
        "tag:=acme",
        "ended:yesterday",
        "ended:2026-01-01..",
        "ended:..2026-01-01",
        "ended:9999-12-31",
        "ended:0001-01-01",
    ],
)
def test_what_is_not_understood_says_so_and_hides_nothing(alice: Access, text: str) -> None:
    run = make_run(alice)
    (term,) = query_language.parse(text)
    if text not in ODD_BUT_RIGHT:
        assert term.problem, text
        assert found(alice, text) == {run.pk}
    found(alice, text)


@pytest.mark.parametrize("text", ['"', '" x', "a\x00b", "'; drop", "x" * 5000, "% _ \\ |", "🦊"])
def test_odd_words_are_only_words(alice: Access, text: str) -> None:
    make_run(alice)
    found(alice, text)


def test_terms_are_written_as_they_were_and_one_replaces_another() -> None:
    terms = query_language.parse('status:failed "two words" teammate:"Ops Team"')
    assert query_language.written(terms) == 'status:failed "two words" teammate:"Ops Team"'
    assert query_language.without(terms, terms[1]) == 'status:failed teammate:"Ops Team"'
    assert query_language.with_term(terms, "status", "running").endswith("status:running")


def test_the_survey_counts_what_the_list_shows(alice: Access, bob: Access) -> None:
    for status in (RunStatus.COMPLETED, RunStatus.COMPLETED, RunStatus.FAILED):
        make_run(alice, status=status)
    make_run(bob, status=RunStatus.COMPLETED)
    now = datetime.now(UTC)
    whole = survey(Run.objects.visible_to(bob), begins=None, ends=now)
    assert whole.counted == 1
    whole = survey(Run.objects.visible_to(alice), begins=now - timedelta(days=7), ends=now)
    assert (whole.counted, whole.is_cut) == (4, False)
    assert sum(n for states in whole.buckets.values() for n in states.values()) == 4
    assert whole.median_ms is not None
    assert [(one["error_class"], one["runs"]) for one in errors(Run.objects.all())] == [
        ("provider.rejected", 1)
    ]
    assert survey(Run.objects.none(), begins=None, ends=now).starts == []


def test_views_are_kept_shared_and_deleted_by_their_maker(alice: Access, bob: Access) -> None:
    mine = saved_views.save_view(alice, name="Failed", query="status:failed")
    shared = saved_views.save_view(alice, name="All", query="", is_shared=True)
    with pytest.raises(Conflict):
        saved_views.save_view(alice, name="Failed", query="x")
    assert set(saved_views.list_views(alice)) == {mine, shared}
    assert set(saved_views.list_views(bob)) == {shared}
    with pytest.raises(NotFound):
        saved_views.delete_view(bob, shared.pk)
    saved_views.delete_view(alice, mine.pk)


def test_a_viewer_shares_no_view(alice: Access) -> None:
    viewer = make_bob(alice, role="viewer")
    assert not saved_views.save_view(viewer, name="x", query="", is_shared=True).is_shared


def test_where_words_are_searched_it_may_begin_with_them(alice: Access) -> None:
    def limit() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SHOW join_collapse_limit")
            return str(cursor.fetchone()[0])

    before = limit()
    with planned(parse("status:failed")):
        assert limit() == before
    with planned(parse("refund status:failed")):
        assert limit() == "8"
