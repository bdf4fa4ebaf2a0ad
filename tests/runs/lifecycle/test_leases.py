"""Who holds a run: claimed, renewed, released, and taken from workers that are silent."""

from datetime import timedelta

import pytest
from django.utils import timezone

from runs.events import log
from runs.events.log import StaleLease
from runs.lifecycle import endings, leases, workers
from runs.lifecycle.endings import Outcome
from runs.lifecycle.transitions import Lease
from runs.models import Event, Run, RunStatus
from teammates.access import Access
from teammates.models import Organization
from teammates.people import organizations
from tests.factories import bring_to, claim, make_run, make_thread, say
from tests.runs.lifecycle.helpers import _claimed, assert_gapless, event_types, in_threads


def test_a_claim_starts_an_attempt_with_a_lease_and_a_higher_fence(alice: Access) -> None:
    run = make_run(alice)
    lease = claim(run)
    run.refresh_from_db()
    assert (run.status, run.fence, run.attempt) == (RunStatus.RUNNING, lease.fence, 1)
    assert run.lease_until is not None
    assert run.lease_until > timezone.now()
    assert event_types(run) == ["run.started", "run.attempt.started"]


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED])
def test_a_finished_run_takes_no_event_from_anybody(alice: Access, status: str) -> None:
    run = make_run(alice, status=status)
    before = run.last_seq
    taken = log.append(
        [
            log.Batch(run.pk, None, [say("late")]),
            log.Batch(run.pk, run.fence, [say("late")]),
        ]
    )
    run.refresh_from_db()
    assert (taken, run.last_seq) == ({}, before)


def test_a_worker_without_the_lease_cannot_write(alice: Access) -> None:
    run = make_run(alice)
    old = claim(run)
    Run.objects.filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(hours=1))
    assert leases.sweep_expired() == 1
    new = claim(run)
    assert log.append([log.Batch(run.pk, old.fence, [say("old")])]) == {}
    with pytest.raises(StaleLease):
        endings.finish_run(old, [say("old")], Outcome(RunStatus.COMPLETED, text="old"))
    endings.finish_run(new, [], Outcome(RunStatus.COMPLETED, text="new"))
    assert not Event.objects.filter(run=run, data__content="old").exists()
    assert_gapless(run)


def test_the_sweeper_gives_back_only_runs_whose_lease_is_over(alice: Access) -> None:
    fresh, stale = make_run(alice), make_run(alice)
    claim(fresh)
    claim(stale)
    Run.objects.filter(pk=stale.pk).update(lease_until=timezone.now() - timedelta(hours=1))
    assert leases.sweep_expired() == 1
    stale.refresh_from_db()
    fresh.refresh_from_db()
    assert (fresh.status, stale.status) == (RunStatus.RUNNING, RunStatus.QUEUED)
    assert event_types(stale)[-1] == "run.attempt.lost"


def test_the_runs_of_a_dead_process_of_this_machine_need_not_wait(alice: Access) -> None:
    dead, alive, elsewhere = (make_run(alice) for _ in range(3))
    names = {dead.pk: "here:11:x", alive.pk: "here:12:x", elsewhere.pk: "there:11:x"}
    for pk, worker in names.items():
        claim(Run.objects.get(pk=pk))
        Run.objects.filter(pk=pk).update(worker=worker)
    assert leases.expire_leases_of_dead("here", lambda pid: pid == 12) == 1
    assert leases.sweep_expired() == 1
    dead.refresh_from_db()
    assert dead.status == RunStatus.QUEUED


def test_a_run_that_loses_its_worker_too_often_fails_and_says_why(alice: Access) -> None:
    run = make_run(alice, status=RunStatus.RUNNING)
    Run.objects.filter(pk=run.pk).update(
        lost_attempts=leases.MAX_LOST_ATTEMPTS,
        lease_until=timezone.now() - timedelta(hours=1),
    )
    leases.sweep_expired()
    run.refresh_from_db()
    assert (run.status, run.error_class) == (RunStatus.FAILED, "worker.recovery_unavailable")
    assert run.error_message


def test_the_next_run_of_a_thread_waits_until_the_first_is_over(alice: Access) -> None:
    thread = make_thread(alice)
    first, second = make_run(alice, thread=thread), make_run(alice, thread=thread)
    (lease,) = leases.claim_runs(worker="w", limit=10)
    assert lease.run_id == first.pk
    assert leases.claim_runs(worker="w", limit=10) == []
    endings.finish_run(lease, [], Outcome(RunStatus.COMPLETED, text="done"))
    (lease,) = leases.claim_runs(worker="w", limit=10)
    assert lease.run_id == second.pk


def test_a_run_in_back_off_keeps_its_place_in_the_thread(alice: Access) -> None:
    thread = make_thread(alice)
    first = make_run(alice, thread=thread)
    make_run(alice, thread=thread)
    Run.objects.filter(pk=first.pk).update(available_at=timezone.now() + timedelta(hours=1))
    assert leases.claim_runs(worker="w", limit=10) == []


def test_organizations_take_turns_and_their_limit_holds(alice: Access, eve: Access) -> None:
    alice.organization.max_running = 3
    alice.organization.save()
    for _ in range(6):
        make_run(alice)
    for _ in range(2):
        make_run(eve)
    taken = [lease.run_id for lease in leases.claim_runs(worker="w", limit=4)]
    owners = [Run.objects.get(pk=pk).organization_id for pk in taken]
    assert owners.count(eve.organization.pk) == 2
    leases.claim_runs(worker="w", limit=10)
    running = Run.objects.filter(organization=alice.organization, status=RunStatus.RUNNING)
    assert running.count() == 3


def test_an_organization_leaves_places_for_others_and_waits_behind_its_own(
    alice: Access, eve: Access
) -> None:
    workers.beat("w", running=0, capacity=20)
    Organization.objects.update(max_running=100)
    for _ in range(30):
        make_run(eve)
    assert _claimed(20) == {eve.organization.pk: 15}
    assert _claimed(5) == {}
    for _ in range(4):
        make_run(alice)
    assert _claimed(5) == {alice.organization.pk: 3}  # as soon as there is something to do
    for run in Run.objects.filter(status=RunStatus.RUNNING, organization=eve.organization)[:8]:
        endings.finish_run(Lease(run.pk, run.fence, run.attempt), [], Outcome(RunStatus.CANCELLED))
    assert _claimed(20)[eve.organization.pk] == 5


def test_who_signs_up_here_runs_less_at_once_than_the_home_organization(eve: Access) -> None:
    home = organizations.found_organization(name="Home", is_home=True)
    assert home.max_running > eve.organization.max_running > 1


def test_a_teammates_limit_holds_within_one_claim(alice: Access) -> None:
    teammate = alice.organization.default_teammate
    assert teammate is not None
    teammate.max_running = 2
    teammate.save()
    for _ in range(4):
        make_run(alice)
    assert len(leases.claim_runs(worker="w", limit=10)) == 2
    assert leases.claim_runs(worker="w", limit=10) == []


@pytest.mark.django_db(transaction=True)
def test_claimers_at_once_never_share_a_run_and_keep_the_order(alice: Access) -> None:
    threads = [make_thread(alice) for _ in range(6)]
    for _ in range(3):
        for thread in threads:
            make_run(alice, thread=thread)
    claimed: list[int] = []

    def work(number: int) -> None:
        while held := leases.claim_runs(worker=f"w{number}", limit=3):
            for lease in held:
                claimed.append(lease.run_id)
                endings.finish_run(lease, [], Outcome(RunStatus.COMPLETED, text="ok"))

    assert in_threads(4, work) == [None] * 4
    while leases.claim_runs(worker="rest", limit=1):
        raise AssertionError("something was left")
    assert sorted(claimed) == sorted(Run.objects.values_list("pk", flat=True))
    for thread in threads:
        ends = Run.objects.filter(thread=thread).order_by("position")
        moments = [run.started_at for run in ends]
        assert moments == sorted(moments, key=lambda at: at or timezone.now())


@pytest.mark.django_db(transaction=True)
def test_leases_and_group_commits_never_deadlock(alice: Access) -> None:
    runs = [make_run(alice) for _ in range(12)]
    held = [claim(run) for run in runs]
    batches = [log.Batch(lease.run_id, lease.fence, [say("x")]) for lease in held]

    def work(number: int) -> int:
        for turn in range(40):
            ordered = held if (turn + number) % 2 else held[::-1]
            if number % 2:
                assert len(leases.renew_leases(ordered)[0]) == 12
            else:
                mixed = batches if turn % 2 else batches[::-1]
                assert len(log.append(mixed)) == 12
        return number

    assert in_threads(4, work) == [0, 1, 2, 3]
    for run in runs:
        assert_gapless(run)
    assert bring_to(runs[0], RunStatus.CANCELLED)
