import threading
from collections import Counter
from datetime import timedelta

import pytest
from django.db import IntegrityError, connections, transaction
from django.utils import timezone

from runs.events import log
from runs.events.log import StaleLease
from runs.lifecycle import endings, leases, transitions, workers
from runs.lifecycle.endings import Outcome
from runs.lifecycle.transitions import TRANSITIONS, Lease
from runs.models import ACTIVE, BUSY, FINISHED, Event, Run, RunStatus, Step, StepKind, Usage
from teammates.access import Access
from teammates.errors import TooMany
from teammates.models import Organization
from teammates.people import organizations
from tests.factories import bring_to, claim, make_run, make_thread, say
from threads.models import Message


def event_types(run: Run) -> list[str]:
    return list(Event.objects.filter(run=run).order_by("seq").values_list("type", flat=True))


def assert_gapless(run: Run) -> None:
    run.refresh_from_db()
    seqs = list(Event.objects.filter(run=run).order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, run.last_seq + 1))


def test_a_new_run_is_queued_with_its_first_event(alice: Access) -> None:
    run = make_run(alice)
    assert run.status == RunStatus.QUEUED
    assert event_types(run) == ["run.started"]
    assert len(run.trace_id) == 32
    assert Event.objects.get(run=run).data["trace_id"] == run.trace_id


def test_a_claim_starts_an_attempt_with_a_lease_and_a_higher_fence(alice: Access) -> None:
    run = make_run(alice)
    lease = claim(run)
    run.refresh_from_db()
    assert (run.status, run.fence, run.attempt) == (RunStatus.RUNNING, lease.fence, 1)
    assert run.lease_until is not None
    assert run.lease_until > timezone.now()
    assert event_types(run) == ["run.started", "run.attempt.started"]


def test_the_end_writes_message_usage_and_event_together(alice: Access) -> None:
    run = make_run(alice)
    lease = claim(run)
    step = Step.objects.create(
        run=run,
        number=1,
        kind=StepKind.MODEL,
        attempt=1,
        first_seq=3,
        started_at=timezone.now(),
        model_name="m",
        input_tokens=10,
        output_tokens=5,
        cost="0.25",
        status="done",
    )
    done = endings.finish_run(lease, [say("Hi")], Outcome(RunStatus.COMPLETED, text="Hi"))
    assert done.status == RunStatus.COMPLETED
    assert done.answer is not None
    assert done.answer.content == "Hi"
    assert (done.input_tokens, done.output_tokens, str(done.cost)) == (10, 5, "0.250000")
    assert Usage.objects.get(run=run).input_tokens == step.input_tokens
    assert event_types(run)[-2:] == ["message.delta", "run.completed"]
    assert_gapless(run)


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


def test_cancelling_a_finished_run_changes_nothing(alice: Access) -> None:
    run = make_run(alice, status=RunStatus.COMPLETED)
    assert endings.cancel_run(run).status == RunStatus.COMPLETED
    assert event_types(run)[-1] == "run.completed"


def test_cancelling_a_queued_run_ends_it_at_once(alice: Access) -> None:
    run = endings.cancel_run(make_run(alice), by=alice.user)
    assert run.status == RunStatus.CANCELLED
    assert event_types(run)[-2:] == ["run.cancel_requested", "run.cancelled"]
    assert Event.objects.get(run=run, type="run.cancelled").data["usage"]["input_tokens"] == 0


def test_cancelling_a_running_run_leaves_the_end_to_its_worker(alice: Access) -> None:
    run = make_run(alice, status=RunStatus.RUNNING)
    run = endings.cancel_run(run)
    assert run.status == RunStatus.RUNNING
    assert run.cancel_requested_at is not None
    endings.cancel_run(run)
    assert event_types(run).count("run.cancel_requested") == 1


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


def test_a_swept_run_that_was_to_be_cancelled_is_cancelled(alice: Access) -> None:
    run = make_run(alice, status=RunStatus.RUNNING)
    endings.cancel_run(run)
    Run.objects.filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(hours=1))
    leases.sweep_expired()
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLED


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


def test_a_full_queue_refuses_and_leaves_nothing_behind(alice: Access, settings: object) -> None:
    settings.THREAD_QUEUE_LIMIT = 2  # type: ignore[attr-defined]
    thread = make_thread(alice)
    make_run(alice, thread=thread)
    make_run(alice, thread=thread)
    before = Message.objects.count()
    with pytest.raises(TooMany, match="2 runs wait"):
        make_run(alice, thread=thread)
    assert Message.objects.count() == before
    assert Run.objects.filter(thread=thread).count() == 2


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


def _claimed(limit: int, worker: str = "w") -> dict[int, int]:
    """How many runs of each organization one claim takes."""
    taken = [lease.run_id for lease in leases.claim_runs(worker=worker, limit=limit)]
    owners = Run.objects.filter(pk__in=taken).values_list("organization_id", flat=True)
    return dict(Counter(owners))


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


def test_an_organization_that_is_alone_takes_every_place(alice: Access) -> None:
    workers.beat("w", running=0, capacity=20)
    Organization.objects.update(max_running=100)
    for _ in range(25):
        make_run(alice)
    assert _claimed(20) == {alice.organization.pk: 20}


def test_one_place_is_still_somebodys(alice: Access, eve: Access) -> None:
    workers.beat("w", running=0, capacity=1)
    make_run(eve)
    make_run(eve)
    assert _claimed(1) == {eve.organization.pk: 1}


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


def test_the_database_refuses_two_busy_runs_in_a_thread(alice: Access) -> None:
    thread = make_thread(alice)
    make_run(alice, thread=thread, status=RunStatus.RUNNING)
    second = make_run(alice, thread=thread)
    with pytest.raises(IntegrityError, match="run_one_busy_per_thread"), transaction.atomic():
        Run.objects.filter(pk=second.pk).update(
            status=RunStatus.RUNNING, lease_until=timezone.now()
        )


@pytest.mark.parametrize("start", list(RunStatus))
@pytest.mark.parametrize("to", list(RunStatus))
def test_the_table_of_transitions_is_whole(start: RunStatus, to: RunStatus) -> None:
    assert set(TRANSITIONS) == set(RunStatus)
    assert not (start in FINISHED and to in TRANSITIONS[start])
    assert set(ACTIVE) | set(FINISHED) == set(RunStatus)
    assert set(BUSY) < set(ACTIVE)


def in_threads(count: int, function) -> list:  # type: ignore[no-untyped-def,type-arg]
    """Run `function(number)` in `count` threads at once; return results or exceptions."""
    results: list = [None] * count  # type: ignore[type-arg]
    barrier = threading.Barrier(count)

    def call(number: int) -> None:
        barrier.wait()
        try:
            results[number] = function(number)
        except Exception as error:
            results[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=call, args=[n]) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


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
def test_a_cancel_and_an_end_at_once_leave_one_terminal_event(alice: Access) -> None:
    for _ in range(10):
        run = make_run(alice)
        lease = claim(run)

        def act(number: int, run: Run = run, lease: transitions.Lease = lease) -> object:
            if number:
                return endings.cancel_run(run)
            return endings.finish_run(lease, [], Outcome(RunStatus.COMPLETED, text="ok"))

        in_threads(2, act)
        assert sum(t in log.TERMINAL for t in event_types(run)) == 1
        assert_gapless(run)


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
