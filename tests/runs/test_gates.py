"""Gates: decided once, by whoever is first, for exactly what was asked."""

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connections
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runs.gates import answers, cards, decisions, opening
from runs.gates.decisions import AlreadyDecided, Decision
from runs.lifecycle import endings
from runs.models import (
    DecidedVia,
    Event,
    Gate,
    GateKind,
    GateStatus,
    Notice,
    Run,
    RunStatus,
    ToolCall,
)
from runs.notifications import mailer
from teammates.access import Access
from teammates.errors import Conflict, DomainError, Forbidden, Invalid, NotFound
from teammates.integrations import tool_policies
from teammates.models import PermissionPolicy, ToolMode
from teammates.people import api_keys
from teammates.tools.files import WRITE_FILE
from teammates.tools.masking import MASK
from tests.api import call
from tests.factories import LETTER, browser_of, make_bob, make_gate, make_key, make_run, with_key

pytestmark = pytest.mark.django_db(transaction=True)

ALLOW, DENY = GateStatus.ALLOWED, GateStatus.DENIED
PAGE = DecidedVia.PAGE


def decide(access: Access | None, gate: Gate, status: GateStatus = ALLOW, **fields: Any) -> Gate:
    return decisions.decide(access, gate, Decision(status, **fields), via=PAGE)


def types(run: Run) -> list[str]:
    return list(Event.objects.filter(run=run).order_by("seq").values_list("type", flat=True))


def at_once(contenders: list[Callable[[], Any]]) -> list[Any]:
    """Run all of them at the same moment; what each returned or raised."""
    outcomes: list[Any] = [None] * len(contenders)
    ready = threading.Barrier(len(contenders))

    def run(number: int, contend: Callable[[], Any]) -> None:
        ready.wait()
        try:
            outcomes[number] = contend()
        except DomainError as error:
            outcomes[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(contenders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


# --- races --------------------------------------------------------------------------------------


def test_of_a_hundred_answers_at_once_one_wins_and_the_others_learn_who_did(alice: Access) -> None:
    bob = make_bob(alice, role="admin")
    gate = make_gate(alice)
    outcomes = at_once(
        [
            lambda n=n: decide((alice, bob)[n % 2], gate, (ALLOW, DENY)[n % 3 % 2])  # type: ignore[misc]
            for n in range(100)
        ]
    )
    won = [outcome for outcome in outcomes if isinstance(outcome, Gate)]
    assert len(won) == 1
    assert won[0].decided_by is not None
    winner = won[0].decided_by.display_name
    lost = [outcome for outcome in outcomes if not isinstance(outcome, Gate)]
    assert all(isinstance(error, AlreadyDecided) for error in lost)
    assert all(str(error).startswith(winner) for error in lost)
    assert {error.details["decision"] for error in lost} == {won[0].status}
    assert types(gate.run).count("run.input_provided") == 1


CONTENDERS = [
    "approve",
    "deny",
    "edit",
    "v1",
    "v2 allow",
    "v2 deny",
    "autonomous",
    "expire",
    "cancel",
    "remember",
]


def contender(word: str, access: Access, gate: Gate) -> Callable[[], Any]:
    run = Run.objects.get(pk=gate.run_id)
    edited = LETTER | {"text": "Edited."}
    return {
        "approve": lambda: decide(access, gate),
        "deny": lambda: decide(access, gate, DENY, answer={"reason": "no"}),
        "edit": lambda: decide(access, gate, arguments=edited),
        "remember": lambda: decide(access, gate, remember=True),
        "v1": lambda: answers.answer_text(access, run, "deny: from v1"),
        "v2 allow": lambda: answers.approve(access, run, str(gate.uid), allow=True),
        "v2 deny": lambda: answers.approve(access, run, str(gate.uid), allow=False),
        "autonomous": lambda: decisions.switch_mode(access, run, "autonomous"),
        "expire": decisions.expire_due,
        "cancel": lambda: endings.cancel_run(run, by=access.user),
    }[word]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(words=st.lists(st.sampled_from(CONTENDERS), min_size=2, max_size=8))
def test_whatever_races_a_gate_is_decided_once_and_everything_agrees(
    alice: Access, words: list[str]
) -> None:
    gate = make_gate(alice)
    if "expire" in words:
        Gate.objects.filter(pk=gate.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    outcomes = at_once([contender(word, alice, gate) for word in words])
    assert all(not isinstance(o, Exception) or isinstance(o, DomainError) for o in outcomes)
    gate.refresh_from_db()
    run, call = Run.objects.get(pk=gate.run_id), ToolCall.objects.get(pk=gate.tool_call_id)
    assert not gate.is_pending
    events = list(Event.objects.filter(run=run).order_by("seq"))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    told = [event for event in events if event.type == "run.input_provided"]
    if gate.status == GateStatus.CANCELLED:
        assert (told, run.status, call.approved_digest) == ([], RunStatus.CANCELLED, "")
        return
    assert [event.data["decision"] for event in told] == [gate.status]
    assert run.status in (RunStatus.QUEUED, RunStatus.CANCELLED)
    if gate.status == GateStatus.ALLOWED:
        assert call.status == "pending"
        assert call.approved_digest
        assert call.arguments["text"] in ("Edited.", LETTER["text"])
        assert (call.arguments["text"] == "Edited.") == ("edits" in (gate.answer or {}))
    else:
        assert (call.status, call.approved_digest) == ("denied", "")
    assert PermissionPolicy.objects.exists() == (gate.remembered_id is not None)
    PermissionPolicy.objects.all().delete()


def test_two_people_must_agree_where_the_setting_says_so(alice: Access) -> None:
    bob = make_bob(alice, role="admin")
    carl = make_bob(alice, email="carl@example.com")
    setting = tool_policies.set_tool(alice, "pretend_send", mode="ask", approvals=2)
    gate = make_gate(carl, setting=setting)
    with pytest.raises(Forbidden, match="You started this run"):
        decide(carl, gate)
    first = decide(alice, gate)
    assert first.is_pending
    for again in (alice, with_key(alice)):  # one person with two credentials is one
        with pytest.raises(Conflict, match="You agreed already"):
            decide(again, gate)
    assert decide(bob, gate).status == ALLOW
    assert "run.approval_recorded" in types(gate.run)
    assert gate.run.events.get(type="run.input_provided").data["by"] == "Bob"
    assert not cards.shown_gate(gate, "x").card["can_remember"]


def test_two_people_at_once_are_two_people_and_one_of_them_is_enough_to_refuse(
    alice: Access,
) -> None:
    bob = make_bob(alice, role="admin")
    carl = make_bob(alice, email="carl@example.com")
    setting = tool_policies.set_tool(alice, "pretend_send", mode="default", approvals=2)
    gate = make_gate(carl, setting=setting)
    outcomes = at_once([lambda: decide(alice, gate), lambda: decide(bob, gate)])
    assert sorted(outcome.is_pending for outcome in outcomes) == [False, True]
    other = make_gate(carl, setting=setting)
    decide(alice, other)
    assert decide(bob, other, DENY).status == DENY
    third, key = make_gate(carl, setting=setting), Access(alice.organization, "admin")
    with pytest.raises(Forbidden, match="Two people"):
        decide(key, third)


# --- what is decided is what was asked ----------------------------------------------------------


def test_a_decision_on_something_else_than_what_was_seen_is_refused(alice: Access) -> None:
    gate = make_gate(alice)
    with pytest.raises(Conflict, match="changed"):
        decide(alice, gate, digest="0" * 64)
    assert Gate.objects.get(pk=gate.pk).is_pending
    assert decide(alice, gate, digest=gate.digest).status == ALLOW


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


def test_secrets_are_masked_on_the_card_and_survive_an_edit(alice: Access) -> None:
    from dataclasses import replace

    from teammates.tools.base import Text, object_schema
    from teammates.tools.pretend import PRETEND_SEND

    tool = replace(
        PRETEND_SEND,
        schema=object_schema(["to", "password"], to=Text("x").schema, password=Text("x").schema),
    )
    given_ = {"to": "Bearer abcdefghijklmnop", "password": "hunter2"}
    gate = make_gate(alice, tool=tool, arguments=given_)
    assert gate.request == {"to": MASK, "password": MASK}
    everything = str(list(Event.objects.filter(run=gate.run).values_list("data", flat=True)))
    assert "hunter2" not in everything + str(gate.card) + gate.prompt
    assert "abcdefghijklmnop" not in everything + str(gate.card) + gate.prompt
    assert ToolCall.objects.get(pk=gate.tool_call_id).arguments == given_
    from teammates.tools.masking import unmasked

    assert unmasked({"to": "kim", "password": MASK}, given_) == {"to": "kim", "password": "hunter2"}


# --- what is decided is what was seen -----------------------------------------------------------

PAY = {"to": "Bearer IBAN-DE00-MALLORY-1234", "text": "hi", "secret": "everything to mallory"}


def hiding_gate(access: Access, **fields: Any) -> Gate:
    """An approval of a call whose values look like secrets: a model chose what they look like."""
    from dataclasses import replace

    from teammates.tools.base import Text, object_schema
    from teammates.tools.pretend import PRETEND_SEND

    texts = {name: Text("x").schema for name in PAY}
    tool = replace(PRETEND_SEND, schema=object_schema(list(PAY), **texts))
    return make_gate(access, tool=tool, arguments=PAY, **fields)


def test_what_a_card_hides_is_approved_by_nobody_who_has_not_seen_it(alice: Access) -> None:
    gate = hiding_gate(alice)
    with pytest.raises(Conflict, match="hidden"):
        decide(alice, gate)
    with pytest.raises(Conflict, match="hidden"):
        answers.answer_text(alice, gate.run, "approve")
    decisions.switch_mode(alice, gate.run, "autonomous")
    assert Gate.objects.get(pk=gate.pk).is_pending
    assert decide(alice, gate, DENY).status == DENY


def test_the_page_shows_what_a_card_hides_and_takes_the_approval_then(alice: Access) -> None:
    gate, browser = hiding_gate(alice), browser_of(alice)
    where = f"/needs-you/?gate={gate.uid}"
    page = browser.get(where).content.decode()
    assert "everything to mallory" not in page
    assert "data-approve" not in page
    form = {"request_id": str(gate.uid), "digest": gate.digest, "decision": "approve"}
    path = f"/runs/{gate.run_id}/answer/"
    assert "hidden" in browser.post(path, form, headers={"hx-request": "true"}).content.decode()
    page = browser.get(f"{where}&whole=1").content.decode()
    assert "everything to mallory" in page
    assert "MALLORY-1234" in page
    seen = form | dict(re.findall(r'type="hidden" name="(saw_hidden)" value="(\w+)"', page))
    assert browser.post(path, seen).status_code == 302
    assert Gate.objects.get(pk=gate.pk).status == ALLOW


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


def test_a_program_that_may_decide_is_shown_in_the_fields_what_will_be_done(alice: Access) -> None:
    gate = hiding_gate(alice)
    path = f"/api/v2/runs/{gate.run_id}/permissions"
    (shown,) = call(make_key(alice), "GET", path).json()
    assert "MALLORY-1234" in str(shown["fields"])
    _, reader = api_keys.create_key(alice, name="reader", scopes=["data.runs.read"])
    (seen,) = call(reader, "GET", path).json()
    assert "MALLORY-1234" not in str(seen)


def test_a_card_of_a_file_writes_out_what_nobody_would_see_and_says_where_it_is_cut(
    alice: Access,
) -> None:
    content = "pay \u202eyam" + "x" * 7000
    gate = make_gate(alice, tool=WRITE_FILE, arguments={"name": "a\u202eb.txt", "content": content})
    page = browser_of(alice).get(f"/needs-you/?gate={gate.uid}").content.decode()
    assert '<b class="mono">a⟨U+202E⟩b.txt</b>' in page
    assert '<pre class="added">pay ⟨U+202E⟩yam' in page
    assert "This is its beginning" in page


def test_neither_a_mails_link_nor_many_at_once_approve_what_is_hidden(alice: Access) -> None:
    gate = hiding_gate(alice)
    Notice.objects.update(due_at=timezone.now())
    (letter,) = mailer.claim_due()
    link = re.search(r"/decide/\S+/", str(letter.message.body))
    assert link is not None
    assert "everything to mallory" not in str(letter.message.body)
    form = {
        "request_id": str(gate.uid),
        "digest": gate.digest,
        "decision": "approve",
        "saw_hidden": "1",
    }
    assert Client().post(link[0], form).status_code == 409
    many = {"gate": [str(gate.pk)], f"digest-{gate.pk}": gate.digest}
    said = browser_of(alice).post("/needs-you/approve/", many, follow=True).content.decode()
    assert "hidden" in said
    assert Gate.objects.get(pk=gate.pk).is_pending


def test_a_program_that_decides_is_given_what_will_be_done(alice: Access) -> None:
    gate, key = hiding_gate(alice), make_key(alice)
    path = f"/api/v2/runs/{gate.run_id}"
    (shown,) = call(key, "GET", f"{path}/permissions").json()
    assert shown["tool_input"] == PAY
    viewer = make_bob(alice, role="viewer")
    assert not Gate.objects.filter(run__in=Run.objects.visible_to(viewer)).exists()
    body = {"request_id": str(gate.uid), "decision": "allow"}
    assert call(key, "POST", f"{path}/approve", body).status_code == 200
    (shown,) = call(key, "GET", f"{path}/permissions").json()
    assert shown["tool_input"] == {"to": MASK, "text": "hi", "secret": MASK}


def test_a_card_that_fits_into_its_event_is_decided_where_it_is_shown(alice: Access) -> None:
    for gate in (make_gate(alice), hiding_gate(alice), make_gate(alice, kind=GateKind.QUESTION)):
        told = gate.run.events.get(type="run.waiting_for_input").data
        assert told["is_cut"] is False


def test_what_turns_or_hides_letters_is_written_out(alice: Access) -> None:
    tricky = LETTER | {
        "to": "mallory\u202emoc.elpmaxe@mik",
        "text": "pay\u200b \u06a9\u200c\u06cc\x1b[2K",
    }
    gate = make_gate(alice, arguments=tricky)
    shown = "".join(value for _, value in gate.card["fields"]) + gate.prompt
    assert "⟨U+202E⟩" in shown
    assert "⟨U+200B⟩" in shown
    assert "⟨U+001B⟩" in shown
    assert "\u202e" not in shown
    assert "\u06a9\u200c\u06cc" in shown
    assert ToolCall.objects.get(pk=gate.tool_call_id).arguments == tricky
    page = browser_of(alice).get(f"/needs-you/?gate={gate.uid}").content.decode()
    assert "\u202e" not in re.sub(r"<textarea.*?</textarea>", "", page, flags=re.DOTALL)


# --- remembering and expiring -------------------------------------------------------------------


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
    ("pattern", "arguments", "fits"),
    [
        ({}, {"to": "x"}, True),
        ({"to": "kim@acme.com"}, {"to": "kim@acme.com"}, True),
        ({"to": "kim@acme.com"}, {"to": "kim@acme.com.evil"}, False),
        ({"to": "*@acme.com"}, {"to": "kim@acme.com"}, True),
        ({"to": "*@acme.com"}, {"to": "kim@acmeXcom"}, False),
        ({"to": "*@acme.com"}, {}, False),
        ({"n": "5"}, {"n": 5}, True),
        ({"to": "a*"}, {"to": "a\nb"}, True),
    ],
)
def test_patterns_of_arguments(pattern: Any, arguments: Any, fits: bool) -> None:
    assert tool_policies.fits(pattern, arguments) is fits


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


def test_an_approval_that_nobody_gave_in_time_counts_as_denied(alice: Access) -> None:
    setting = tool_policies.set_tool(alice, "pretend_send", mode="default", expires_after=60)
    gate = make_gate(alice, setting=setting)
    Gate.objects.filter(pk=gate.pk).update(expires_at=timezone.now())
    assert decisions.expire_due() == 1
    gate.refresh_from_db()
    call = ToolCall.objects.get(pk=gate.tool_call_id)
    assert (gate.status, call.status) == ("timeout", "denied")
    assert "Nobody decided in time" in call.error
    with pytest.raises(NotFound) as late:
        answers.approve(alice, Run.objects.get(pk=gate.run_id), str(gate.uid), allow=True)
    assert late.value.code == "gate_resolved_otherwise"


# --- questions and plans ------------------------------------------------------------------------


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


# --- modes --------------------------------------------------------------------------------------


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


def test_switching_a_run_that_is_over_is_kept_for_its_replies(alice: Access) -> None:
    run = make_run(alice, status=RunStatus.COMPLETED)
    assert decisions.switch_mode(alice, run, "approval").permission_mode == "approval"
    with pytest.raises(Invalid, match="permission_mode"):
        decisions.switch_mode(alice, run, "yolo")


# --- v2's order of refusals ---------------------------------------------------------------------


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


# --- the unknown --------------------------------------------------------------------------------


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


# --- the link in an e-mail ----------------------------------------------------------------------


def mailed_link() -> str:
    Notice.objects.update(due_at=timezone.now())
    for letter in mailer.claim_due():
        mailer.record_sent(letter, mailer.send(letter))
    text = mail.outbox[-1].body
    return next(line for line in text.splitlines() if "/decide/" in line).partition("8000")[2]


def test_a_gate_is_mailed_with_a_link_that_decides_once(alice: Access) -> None:
    gate = make_gate(alice)
    link = mailed_link()
    assert mail.outbox[-1].to == ["alice@example.com"]
    assert "kim@example.com" in mail.outbox[-1].body
    token = link.rstrip("/").rpartition("/")[2]
    assert token not in str(Notice.objects.values())
    stranger = Client()
    assert b"Pretend to send" in stranger.get(link).content
    assert stranger.get(link).status_code == 200
    assert Gate.objects.get(pk=gate.pk).is_pending  # mail scanners open links
    form = {"request_id": str(gate.uid), "digest": gate.digest, "decision": "approve"}
    assert b"Thank you" in stranger.post(link, form).content
    gate.refresh_from_db()
    assert (gate.status, gate.decided_by, gate.decided_via) == (ALLOW, alice.user, "mail")
    assert stranger.post(link, form).status_code == 404
    assert stranger.get(link).status_code == 404
    assert mailer.claim_due() == []


def test_a_link_is_not_spent_by_a_refusal_and_nothing_is_mailed_once_decided(
    alice: Access,
) -> None:
    gate = make_gate(alice)
    link = mailed_link()
    wrong = {"request_id": str(gate.uid), "digest": "0", "decision": "approve"}
    assert Client().post(link, wrong).status_code == 409
    assert Client().post(link, wrong | {"digest": gate.digest}).status_code == 200
    other = make_gate(alice)
    decide(alice, other)
    Notice.objects.filter(gate=other).update(due_at=timezone.now())
    assert mailer.claim_due() == []
    assert Client().get("/decide/nonsense/").status_code == 404


def test_a_letter_that_cannot_be_sent_is_tried_again_and_given_up(
    alice: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.core.mail import EmailMessage

    def refuse(self: EmailMessage) -> int:
        raise ConnectionRefusedError("no server")

    monkeypatch.setattr(EmailMessage, "send", refuse)
    make_gate(alice)
    for _ in range(mailer.MOST_ATTEMPTS):
        Notice.objects.update(due_at=timezone.now())
        (letter,) = mailer.claim_due()
        mailer.record_sent(letter, mailer.send(letter))
    notice = Notice.objects.get()
    assert (notice.due_at, notice.sent_at) == (None, None)
    assert "no server" in notice.problem


# --- the page -----------------------------------------------------------------------------------


def test_the_list_shows_what_waits_and_who_looks_at_it(alice: Access) -> None:
    bob = make_bob(alice, role="admin")
    gate = make_gate(alice)
    page = browser_of(alice).get("/needs-you/").content.decode()
    assert "Pretend to send a message to kim@example.com" in page
    theirs = browser_of(bob).get("/needs-you/?tab=team").content.decode()
    assert "Alice is looking" in theirs
    assert "Pretend to send" not in browser_of(bob).get("/needs-you/").content.decode()
    browser_of(alice).post(f"/needs-you/{gate.pk}/snooze/", {"for": "1h"})
    assert "Nothing needs you" in browser_of(alice).get("/needs-you/").content.decode()
    assert "Pretend to send" in browser_of(alice).get("/needs-you/?tab=snoozed").content.decode()
    decide(alice, gate, DENY, answer={"reason": "wrong list"})
    done = browser_of(alice).get("/needs-you/?tab=done").content.decode()
    assert "wrong list" in done


def seen(*gates: Gate) -> dict[str, str]:
    """What the form of several approvals sends of what it shows."""
    return {f"digest-{gate.pk}": gate.digest for gate in gates}


def test_several_approvals_of_one_tool_are_given_at_once(alice: Access) -> None:
    first, second, other = (
        make_gate(alice),
        make_gate(alice),
        make_gate(alice, tool=WRITE_FILE, arguments={"name": "a.txt", "content": "x"}),
    )
    client = browser_of(alice)
    client.post("/needs-you/approve/", {"gate": [first.pk, other.pk]} | seen(first, other))
    assert Gate.objects.filter(status="pending").count() == 3
    unseen = {"gate": [first.pk, second.pk]}
    client.post("/needs-you/approve/", unseen)
    assert Gate.objects.filter(status="pending").count() == 3
    client.post("/needs-you/approve/", unseen | seen(first, second))
    assert Gate.objects.filter(status="allowed").count() == 2


def test_nothing_of_high_risk_is_approved_in_a_batch_or_denied_without_a_word(
    alice: Access,
) -> None:
    gate = make_gate(alice)
    Gate.objects.filter(pk=gate.pk).update(card=gate.card | {"risk": "high"})
    client = browser_of(alice)
    client.post("/needs-you/approve/", {"gate": [gate.pk]} | seen(gate))
    form = {"request_id": str(gate.uid), "decision": "deny"}
    client.post(f"/runs/{gate.run_id}/answer/", form)
    assert Gate.objects.get(pk=gate.pk).is_pending
    client.post(f"/runs/{gate.run_id}/answer/", form | {"reason": "too much"})
    assert Gate.objects.get(pk=gate.pk).status == DENY


def test_a_colleague_and_a_stranger_decide_nothing(alice: Access, eve: Access) -> None:
    bob = make_bob(alice)
    gate = make_gate(alice)
    for access in (bob, eve):
        client = browser_of(access)
        form = {"request_id": str(gate.uid), "decision": "approve"}
        assert client.post(f"/runs/{gate.run_id}/answer/", form).status_code == 404
        assert client.get(f"/needs-you/{gate.pk}/presence/").status_code == 404
        assert "kim@" not in client.get(f"/needs-you/?gate={gate.pk}").content.decode()
        client.post("/needs-you/approve/", {"gate": [gate.pk]} | seen(gate))
    assert Gate.objects.get(pk=gate.pk).is_pending


def test_the_list_costs_the_same_queries_for_one_and_for_twenty(
    alice: Access, django_assert_max_num_queries: Any
) -> None:
    make_gate(alice)
    client = browser_of(alice)
    client.get("/needs-you/")
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connections["default"]) as one:
        client.get("/needs-you/")
    for _ in range(19):
        make_gate(alice)
    with django_assert_max_num_queries(len(one)):
        client.get("/needs-you/")


def test_a_viewer_may_decide_nothing(alice: Access) -> None:
    viewer = make_bob(alice, role="viewer")
    gate = make_gate(alice)
    with pytest.raises(Forbidden):
        decide(viewer, gate)
    with pytest.raises(Invalid):
        tool_policies.set_tool(alice, "x", mode="sometimes")
    assert ToolMode.values == ["default", "ask", "off"]


# --- what a review found ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [GateKind.APPROVAL, GateKind.QUESTION, GateKind.PLAN])
def test_a_request_larger_than_an_event_is_shown_and_decided_whole(
    alice: Access, kind: GateKind
) -> None:
    long = "Ж" * 11_000
    arguments: dict[str, Any] = {"to": "kim@example.com", "text": "Ж" * 3_900}
    tool = None
    if kind == GateKind.APPROVAL:
        from dataclasses import replace

        from teammates.tools.pretend import PRETEND_SEND

        arguments = {f"field_{n}": "Ж" * 6_000 for n in range(6)}
        tool = replace(PRETEND_SEND, schema={"type": "object"}, say=lambda given: "Send it")
    else:
        header = "Plan Approval" if kind == GateKind.PLAN else "Length"
        arguments = {"questions": [{"question": long, "header": header}]}
    fields = {"tool": tool} if tool else {}
    gate = make_gate(alice, kind=kind, arguments=arguments, **fields)
    event = gate.run.events.get(type="run.waiting_for_input").data
    assert event["is_cut"]
    page = browser_of(alice).get(f"/needs-you/?gate={gate.uid}").content.decode()
    assert "Ж" * 3_000 in page
    assert 'name="decision"' in page or 'name="plan"' in page
    in_thread = browser_of(alice).get(gate.run.thread.get_absolute_url()).content.decode()
    assert f"/needs-you/?gate={gate.uid}" in in_thread
    assert "data-edit" not in in_thread


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


def test_a_link_counts_only_while_its_person_may_decide(alice: Access) -> None:
    from teammates.models import Membership

    owned_by_nobody = make_run(alice)
    Run.objects.filter(pk=owned_by_nobody.pk).update(created_by=None)
    gate = make_gate(alice, run=Run.objects.get(pk=owned_by_nobody.pk))
    link = mailed_link()
    membership = Membership.objects.get(user=alice.user)
    for role in ("member", "viewer"):
        Membership.objects.filter(pk=membership.pk).update(role=role)
        assert Client().get(link).status_code == 404
        form = {"request_id": str(gate.uid), "decision": "approve"}
        assert Client().post(link, form).status_code == 404
    membership.delete()
    assert Client().get(link).status_code == 404
    assert Gate.objects.get(pk=gate.pk).is_pending


def test_whoever_left_is_told_nothing_and_an_owner_is_told_instead(alice: Access) -> None:
    from teammates.models import Membership

    bob = make_bob(alice)
    run = make_run(bob)
    Membership.objects.filter(user=bob.user).delete()
    gate = make_gate(bob, run=run)
    assert [notice.user for notice in Notice.objects.filter(gate=gate)] == [alice.user]


def test_snoozing_is_everybodys_own(alice: Access) -> None:
    bob = make_bob(alice, role="admin")
    gate = make_gate(alice)
    browser_of(bob).post(f"/needs-you/{gate.pk}/snooze/", {"for": "1d"})
    assert "Pretend to send" in browser_of(alice).get("/needs-you/").content.decode()
    assert (
        "Nobody else is waited for" in browser_of(bob).get("/needs-you/?tab=team").content.decode()
    )


def test_a_program_that_asks_is_allowed_at_once_in_autonomous_mode_and_listed_otherwise(
    alice: Access,
) -> None:
    from runs.creation import options

    free = make_run(alice)
    assert opening.ask_outside(alice, free, tool_name="Bash", arguments={}).status == ALLOW
    careful = make_run(alice, options=options.Options(permission_mode="approval"))
    assert opening.ask_outside(alice, careful, tool_name="Bash", arguments={}).is_pending
    assert "Use Bash" in browser_of(alice).get("/needs-you/").content.decode()


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
