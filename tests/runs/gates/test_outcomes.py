"""What a decision changes in its run."""

import pytest

from runs.gates import decisions
from runs.gates.decisions import Decision
from runs.models import (
    GateKind,
    Run,
    ToolCall,
)
from teammates.access import Access
from teammates.errors import Invalid
from teammates.integrations import tool_policies
from teammates.models import PermissionPolicy
from teammates.tools.masking import MASK
from tests.factories import LETTER, browser_of, make_bob, make_gate
from tests.runs.gates.asking import ALLOW, DENY, PAGE, decide

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_approval_counts_for_exactly_these_arguments(alice: Access) -> None:
    gate = make_gate(alice)
    decide(alice, gate)
    call = ToolCall.objects.get(pk=gate.tool_call_id)
    from teammates.tools.pretend import PRETEND_SEND

    assert call.approved_digest == PRETEND_SEND.digest(LETTER)
    assert call.approved_digest != PRETEND_SEND.digest(LETTER | {"to": "eve@example.com"})


def test_edits_are_checked_kept_and_told(alice: Access) -> None:
    gate = make_gate(alice)
    for wrong in ({"to": "x"}, LETTER | {"more": 1}, "text"):
        with pytest.raises(Invalid, match="arguments"):
            decide(alice, gate, arguments=wrong)
    decide(alice, gate, arguments=LETTER | {"text": "Shorter."})
    call = ToolCall.objects.get(pk=gate.tool_call_id)
    assert call.arguments == LETTER | {"text": "Shorter."}
    told = gate.run.events.get(type="run.input_provided").data["edits"]
    assert told == [{"name": "Text", "before": LETTER["text"], "after": "Shorter."}]


def test_a_remembered_approval_is_a_policy_of_exactly_the_runs_scope(alice: Access) -> None:
    gate = make_gate(alice)
    decide(alice, gate, remember=True)
    policy = PermissionPolicy.objects.get()
    assert (policy.tool, policy.end_user, policy.source) == ("pretend_send", None, "run_approval")
    gate.refresh_from_db()
    assert gate.remembered == policy
    end_user_access = alice.for_end_user("cust_1")
    end_user_access.end_user.save()  # type: ignore[union-attr]
    from teammates.tools.pretend import PRETEND_SEND

    covering = tool_policies.covering
    assert covering(alice.organization, None, PRETEND_SEND, LETTER) == policy
    assert covering(alice.organization, end_user_access.end_user, PRETEND_SEND, LETTER) is None


def test_a_member_may_decide_but_not_make_a_standing_permission(alice: Access) -> None:
    bob = make_bob(alice)
    gate = make_gate(bob)
    decided = decide(bob, gate, remember=True)
    assert (decided.status, decided.remembered) == (ALLOW, None)
    assert not PermissionPolicy.objects.exists()


@pytest.mark.parametrize(
    ("decision", "status", "run_status"),
    [
        (Decision(ALLOW), "done", "queued"),
        (Decision(DENY), "failed", "queued"),
        (Decision(ALLOW, {"retry": True}), "pending", "queued"),
        (Decision(DENY, {"stop": True}), "waiting", "cancelled"),
    ],
)
def test_the_answers_to_did_it_happen(
    alice: Access, decision: Decision, status: str, run_status: str
) -> None:
    gate = make_gate(alice, kind=GateKind.UNKNOWN)
    assert any("not repeated" in line for line in gate.card["known"])
    decisions.decide(alice, gate, decision, via=PAGE)
    call = ToolCall.objects.get(pk=gate.tool_call_id)
    assert call.status == status
    assert bool(call.approved_digest) == bool(decision.answer.get("retry"))
    assert Run.objects.get(pk=gate.run_id).status == run_status


def test_an_edit_of_many_long_fields_is_taken_and_told_in_short(alice: Access) -> None:
    from dataclasses import replace

    from runs.tools import toolbox
    from teammates import tools
    from teammates.tools.pretend import PRETEND_SEND

    many = {f"f{n}": "Ж" * 3_000 for n in range(10)}
    tool = replace(PRETEND_SEND, schema={"type": "object"}, say=lambda given: "Send it")
    gate = make_gate(alice, tool=tool, arguments=many)
    found = toolbox.Toolbox({tool.name: tool})
    original, toolbox.tools_of_run = toolbox.tools_of_run, lambda run: found
    try:
        decide(alice, gate, arguments={name: text[:-1] for name, text in many.items()})
    finally:
        toolbox.tools_of_run = original
    told = gate.run.events.get(type="run.input_provided").data["edits"]
    assert len(told) == 10
    assert tools.REGISTRY


def test_a_mask_that_was_edited_is_refused_rather_than_sent(alice: Access) -> None:
    letter = {"to": "kim@example.com", "text": "use Bearer abcdefghijklmnop today"}
    gate = make_gate(alice, arguments=letter)
    assert MASK in gate.request["text"]
    cut = {"to": "kim@example.com", "text": f"use {MASK} now"}
    with pytest.raises(Invalid, match="exactly as it is"):
        decide(alice, gate, arguments=cut, saw_hidden=True)
    whole = {"to": "bo@example.com", "text": gate.request["text"]}
    decide(alice, gate, arguments=whole, saw_hidden=True)
    call = ToolCall.objects.get(pk=gate.tool_call_id)
    assert call.arguments == {"to": "bo@example.com", "text": letter["text"]}


def test_whatever_button_is_pressed_the_fields_are_what_is_approved(alice: Access) -> None:
    gate = make_gate(alice)
    form = {
        "request_id": str(gate.uid),
        "digest": gate.digest,
        "decision": "approve",
        "edit-to": "boss@example.com",
        "edit-text": LETTER["text"],
    }
    browser_of(alice).post(f"/runs/{gate.run_id}/answer/", form)
    call = ToolCall.objects.get(pk=gate.tool_call_id)
    assert call.arguments == {"to": "boss@example.com", "text": LETTER["text"]}
    untouched = make_gate(alice, arguments={"to": "kim@example.com", "text": "one\r\ntwo"})
    form = {
        "request_id": str(untouched.uid),
        "decision": "approve",
        "edit-to": "kim@example.com",
        "edit-text": "one\r\ntwo",
    }
    browser_of(alice).post(f"/runs/{untouched.run_id}/answer/", form)
    untouched.refresh_from_db()
    assert "edits" not in (untouched.answer or {})
