"""A run stops at a gate, and goes on once it is decided."""

import pytest

from runs.gates import decisions
from runs.gates.decisions import Decision
from runs.lifecycle import endings
from runs.models import CallStatus, DecidedVia, GateStatus, Run, RunStatus
from teammates.access import Access
from tests.factories import claim, make_gate, make_run

pytestmark = pytest.mark.django_db


def test_a_run_that_waits_holds_no_worker_and_no_lease(alice: Access) -> None:
    gate = make_gate(alice)
    run = Run.objects.get(pk=gate.run_id)
    assert (run.status, run.worker, run.lease_until) == (RunStatus.WAITING, "", None)
    assert gate.tool_call is not None
    gate.tool_call.refresh_from_db()
    assert gate.tool_call.status == CallStatus.WAITING


def test_it_goes_on_in_its_old_place_before_what_came_later(alice: Access) -> None:
    gate = make_gate(alice)
    later = make_run(alice, thread=gate.run.thread)
    position = Run.objects.get(pk=gate.run_id).position
    decisions.decide(alice, gate, Decision(GateStatus.ALLOWED), via=DecidedVia.PAGE)
    run = Run.objects.get(pk=gate.run_id)
    assert (run.status, run.position) == (RunStatus.QUEUED, position)
    assert claim(run).run_id == run.pk
    later.refresh_from_db()
    assert later.status == RunStatus.QUEUED


def test_a_run_that_is_cancelled_while_it_waits_asks_no_more(alice: Access) -> None:
    gate = make_gate(alice)
    endings.cancel_run(Run.objects.get(pk=gate.run_id))
    gate.refresh_from_db()
    assert gate.status == GateStatus.CANCELLED
