"""The ways in which people and programs answer: in words (v1), question by question, and
yes or no (v2). Each reads what was said and hands it to `decisions.decide`.
"""

import pytest

from runs.gates import answers, opening
from runs.lifecycle import endings
from runs.models import (
    GateKind,
    Run,
    ToolCall,
)
from teammates.access import Access
from teammates.errors import DomainError, Invalid
from teammates.models import PermissionPolicy
from tests.factories import make_gate
from tests.runs.gates.asking import ALLOW

pytestmark = pytest.mark.django_db(transaction=True)


def test_answers_may_name_the_question_or_its_header_and_must_be_complete(alice: Access) -> None:
    two = {"questions": [{"question": "How long?", "header": "Length"}, {"question": "For whom?"}]}
    gate = make_gate(alice, kind=GateKind.QUESTION, arguments=two)
    run = Run.objects.get(pk=gate.run_id)
    with pytest.raises(Invalid, match="For whom"):
        answers.answer_questions(alice, run, {"Length": "Short"})
    with pytest.raises(Invalid, match="at most"):
        answers.answer_questions(alice, run, {"Length": "x" * 33_000, "For whom?": "y"})
    answers.answer_questions(alice, run, {"Length": "Short", "For whom?": "Kim"})
    call = ToolCall.objects.get(pk=gate.tool_call_id)
    assert call.result == {"answers": {"How long?": "Short", "For whom?": "Kim"}}


@pytest.mark.parametrize(
    ("answer", "approved"),
    [
        ("Approve", True),
        ("approve: but be quick", True),
        ("Revise", False),
        ("Revise: approve nothing", False),
        ("Disapprove", False),
        ("Approve nothing yet", False),
        ("Approve later", False),
        ("approve, but not step 2", False),
    ],
)
def test_only_an_approved_plan_lets_the_run_change_things(
    alice: Access, answer: str, approved: bool
) -> None:
    plan = {"questions": [{"question": "1. Do it", "header": "Plan Approval"}]}
    gate = make_gate(alice, kind=GateKind.PLAN, arguments=plan)
    run = Run.objects.get(pk=gate.run_id)
    answers.answer_questions(alice, run, {"Plan Approval": answer})
    run.refresh_from_db()
    assert (run.plan_approved_at is not None) == approved


def test_the_order_of_refusals_of_an_approval(alice: Access) -> None:
    gate = make_gate(alice)
    run, request = Run.objects.get(pk=gate.run_id), str(gate.uid)

    def refused(allow: bool = True, request_id: str = request) -> str:
        with pytest.raises(DomainError) as error:
            answers.approve(alice, run, request_id, allow=allow)
        return error.value.code

    assert refused(request_id="nonsense") == "gate_not_found"
    assert answers.approve(alice, run, request, allow=True) == (gate, True)
    again, resumed = answers.approve(alice, run, request, allow=True, remember=True)
    assert (again.status, resumed) == (ALLOW, False)
    assert PermissionPolicy.objects.count() == 1
    assert answers.approve(alice, run, request, allow=True)[0].remembered_id  # never taken back
    assert refused(allow=False) == "gate_resolved_otherwise"
    other = make_gate(alice)
    run = endings.cancel_run(Run.objects.get(pk=other.run_id))
    assert refused(request_id=str(other.uid)) == "gate_cancelled"
    assert refused(request_id="nonsense") == "gate_not_found"
    late = opening.ask_outside(alice, run, tool_name="Bash", arguments={})
    assert refused(request_id=str(late.uid)) == "run_not_active"


def test_v1_remembers_a_pattern_as_a_pattern(alice: Access) -> None:
    import json

    gate = make_gate(alice)
    run = Run.objects.get(pk=gate.run_id)
    for wrong in ('"false"', "1", "[]"):
        with pytest.raises(Invalid):
            answers.answer_text(alice, run, f'{{"decision": "approve", "remember": {wrong}}}')
    given_ = {"decision": "approve", "remember": {"to": "kim@*"}}
    answers.answer_text(alice, run, json.dumps(given_))
    assert PermissionPolicy.objects.get().pattern == {"to": "kim@*"}
