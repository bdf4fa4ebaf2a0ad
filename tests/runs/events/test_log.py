"""The event log: `append` is the only writer and the only publisher of events."""

import json

import pytest
from django.db import connection

from runs.events import channels, log
from runs.events.log import Batch, News
from runs.events.payloads import NewEvent
from runs.models import Event
from teammates.access import Access
from tests.database import cluster
from tests.factories import claim, make_run, say


def test_a_nul_in_one_runs_text_harms_no_other_run(alice: Access) -> None:
    """Trap 2.1."""
    bad, good = make_run(alice), make_run(alice)
    leases = [claim(bad), claim(good)]
    taken = log.append(
        [
            Batch(leases[0].run_id, leases[0].fence, [say("a\x00b\ud800c")]),
            Batch(leases[1].run_id, leases[1].fence, [say("fine")]),
        ]
    )
    assert set(taken) == {bad.pk, good.pk}
    assert Event.objects.filter(run=bad).last().data["content"] == "a\ufffdb\ufffdc"  # type: ignore[union-attr]
    assert Event.objects.filter(run=good).last().data["content"] == "fine"  # type: ignore[union-attr]


def test_data_that_cannot_be_stored_fails_only_its_own_run(alice: Access) -> None:
    bad, good = make_run(alice), make_run(alice)
    leases = [claim(bad), claim(good)]
    huge = NewEvent("x", {"number": 10**5000})  # more digits than Python writes
    taken = log.append(
        [
            Batch(leases[0].run_id, leases[0].fence, [huge]),
            Batch(leases[1].run_id, leases[1].fence, [say("fine")]),
        ]
    )
    assert taken == {good.pk: 3, bad.pk: None}


def test_a_stale_fence_drops_only_its_own_events(alice: Access) -> None:
    one, two = make_run(alice), make_run(alice)
    leases = [claim(one), claim(two)]
    late = Batch(one.pk, leases[0].fence - 1, [say("late")])
    taken = log.append([late, Batch(two.pk, leases[1].fence, [say("ok")])])
    assert set(taken) == {two.pk}


def test_the_same_run_twice_in_a_batch_loses_nothing(alice: Access) -> None:
    """Trap 2.4."""
    run = make_run(alice)
    lease = claim(run)
    taken = log.append(
        [Batch(run.pk, lease.fence, [say("a")]), Batch(run.pk, lease.fence, [say("b")])]
    )
    assert taken == {run.pk: 4}
    assert [e.data["content"] for e in log.read(run.pk, after=2)] == ["a", "b"]


@pytest.mark.django_db(transaction=True)
def test_notifications_of_many_runs_stay_under_the_limit_of_postgres(alice: Access) -> None:
    """Trap 2.3: 700 runs in one tick."""
    teammate = alice.organization.default_teammate
    assert teammate is not None
    run = make_run(alice)
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        columns = [f.column for f in run._meta.fields if f.column not in ("id", "uid", "thread_id")]
        names = ", ".join(columns)
        cursor.execute(
            f"INSERT INTO runs_run (id, uid, thread_id, {names}) "
            f"SELECT 100000000000 + n, gen_random_uuid(), 200000000000 + n, {names} FROM runs_run, "
            "generate_series(1, 700) n WHERE id = %s",
            [run.pk],
        )
        cursor.execute("SET session_replication_role = DEFAULT")
    name = connection.settings_dict["NAME"]
    with cluster.connect(name) as listener:
        listener.execute(f"LISTEN {channels.EVENTS_CHANNEL}")
        taken = log.append(Batch(100000000000 + n, None, [say("x")]) for n in range(1, 701))
        assert len(taken) == 700
        told = [n.payload for n in listener.notifies(timeout=2, stop_after=5)]
    assert all(len(payload) < 8000 for payload in told)
    assert sum(payload.count(":") for payload in told) == 700


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("size", "carried"), [(10, True), (2_000, True), (10_000, False)])
def test_a_notification_carries_the_events_themselves_while_they_are_small(
    alice: Access, size: int, carried: bool
) -> None:
    run = make_run(alice)
    with cluster.connect(connection.settings_dict["NAME"]) as listener:
        listener.execute(f"LISTEN {channels.EVENTS_CHANNEL}")
        words = [say("é\n'" + "x" * size), say("1:2,3")]
        log.append([Batch(run.pk, None, words)])
        (told,) = [n.payload for n in listener.notifies(timeout=5, stop_after=1)]
    news = News.of(told)
    assert news.last_seqs == {run.pk: 3}
    assert news.events() == (log.read(run.pk, after=1) if carried else [])


def test_an_event_over_64_kb_is_refused_and_harms_no_other_run(alice: Access) -> None:
    large, other = make_run(alice), make_run(alice)
    leases = [claim(large), claim(other)]
    taken = log.append(
        [
            Batch(large.pk, leases[0].fence, [say("x" * 70_000)]),
            Batch(other.pk, leases[1].fence, [say("fine")]),
        ]
    )
    assert taken == {other.pk: 3, large.pk: None}


def test_reading_pages_and_many_runs(alice: Access) -> None:
    one, two = make_run(alice), make_run(alice)
    for run in (one, two):
        lease = claim(run)
        log.append([Batch(run.pk, lease.fence, [say(str(n)) for n in range(5)])])
    assert [e.seq for e in log.read(one.pk, after=0, limit=3)] == [1, 2, 3]
    found = log.read_new({one.pk: 5, two.pk: 6})
    assert [(e.run_id, e.seq) for e in found] == [(one.pk, 6), (one.pk, 7), (two.pk, 7)]
    assert json.dumps(found[0].data)
