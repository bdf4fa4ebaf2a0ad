"""Asking a person: a gate is opened, and its run waits in the database."""

import re

import pytest
from django.utils import timezone

from runs.gates import answers, decisions, opening
from runs.models import (
    Gate,
    GateKind,
    GateStatus,
    Run,
    RunStatus,
)
from teammates.access import Access
from teammates.errors import Conflict
from tests.factories import browser_of, make_gate, make_run
from tests.runs.gates.asking import ALLOW

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_programs_own_call_that_hides_something_is_approved_once_it_was_seen(
    alice: Access,
) -> None:
    run = make_run(alice)
    run.permission_mode = "approval"
    gate = opening.ask_outside(
        alice, run, tool_name="pay", arguments={"to": "mallory", "password": "hunter2-hunter2"}
    )
    browser, where = browser_of(alice), f"/needs-you/?gate={gate.uid}&whole=1"
    page = browser.get(where).content.decode()
    assert "hunter2" in page
    assert "Edit before approving" not in page
    inputs = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page)
    form = dict(inputs) | {"request_id": str(gate.uid), "decision": "approve"}
    form |= {"edit-password": "•••"}  # as an old page has it
    assert browser.post(f"/runs/{run.pk}/answer/", form).status_code == 302
    assert Gate.objects.get(pk=gate.pk).status == ALLOW


def test_a_question_goes_on_with_what_it_recommends(alice: Access) -> None:
    asked = {
        "questions": [
            {
                "question": "How long?",
                "options": [{"label": "Short (Recommended)"}, {"label": "Long"}],
            }
        ]
    }
    gate = make_gate(alice, kind=GateKind.QUESTION, arguments=asked)
    assert gate.expires_at is not None
    assert decisions.expire_due() == 0
    Gate.objects.filter(pk=gate.pk).update(expires_at=timezone.now())
    assert decisions.expire_due() == 1
    gate.refresh_from_db()
    answer = (gate.answer or {})["answers"]["How long?"]
    assert answer == "Short [auto-selected after 10 minutes]"
    assert gate.auto_resolved
    run = Run.objects.get(pk=gate.run_id)
    with pytest.raises(Conflict) as late:
        answers.answer_questions(alice, run, {"How long?": "Long"}, request_id=str(gate.uid))
    assert late.value.code == "auto_continued"


def test_questions_without_a_recommendation_plans_and_approvals_wait_for_ever(
    alice: Access,
) -> None:
    plan = {
        "questions": [
            {
                "question": "1. Do it",
                "header": "Plan Approval",
                "options": [{"label": "Approve (Recommended)"}],
            }
        ]
    }
    for gate in (
        make_gate(alice, kind=GateKind.QUESTION),
        make_gate(alice, kind=GateKind.PLAN, arguments=plan),
        make_gate(alice),
    ):
        assert gate.expires_at is None


def test_a_non_blocking_question_goes_on_at_once(alice: Access) -> None:
    asked = {
        "questions": [{"question": "Which?", "options": [{"label": "A (Recommended)"}]}],
        "metadata": {"source": "non-blocking"},
    }
    gate = make_gate(alice, kind=GateKind.QUESTION, arguments=asked)
    assert decisions.expire_due() == 1
    gate.refresh_from_db()
    assert (gate.answer or {})["answers"] == {"Which?": "A [auto-selected]"}


def test_switching_to_autonomous_allows_open_approvals_and_nothing_else(alice: Access) -> None:
    approval, question = make_gate(alice), make_gate(alice, kind=GateKind.QUESTION)
    unknown = make_gate(alice, kind=GateKind.UNKNOWN)
    outside = opening.ask_outside(
        alice, question.run, tool_name="Bash", arguments={"command": "ls"}
    )
    for gate in (approval, question, unknown):
        decisions.switch_mode(alice, Run.objects.get(pk=gate.run_id), "autonomous")
    statuses = [Gate.objects.get(pk=g.pk).status for g in (approval, question, unknown, outside)]
    assert statuses == ["allowed", "pending", "pending", "allowed"]
    assert Gate.objects.get(pk=approval.pk).decided_via == "mode"


def test_a_change_of_mode_allows_what_a_program_asks_by_itself(alice: Access) -> None:
    run = make_run(alice, status=RunStatus.COMPLETED)
    gate = opening.ask_outside(alice, run, tool_name="Bash", arguments={"command": "ls"})
    decisions.switch_mode(alice, run, "autonomous")
    gate.refresh_from_db()
    assert gate.status == GateStatus.ALLOWED


def test_a_program_that_asks_is_allowed_at_once_in_autonomous_mode_and_listed_otherwise(
    alice: Access,
) -> None:
    from runs.creation import options

    free = make_run(alice)
    assert opening.ask_outside(alice, free, tool_name="Bash", arguments={}).status == ALLOW
    careful = make_run(alice, options=options.Options(permission_mode="approval"))
    assert opening.ask_outside(alice, careful, tool_name="Bash", arguments={}).is_pending
    assert "Use Bash" in browser_of(alice).get("/needs-you/").content.decode()
