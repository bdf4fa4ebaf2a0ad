"""Gates: a pending human decision is a row; it is decided once, and the run goes on."""

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connections
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runs.gates import answers, decisions
from runs.gates.decisions import AlreadyDecided
from runs.models import (
    Event,
    Gate,
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
from teammates.tools.files import WRITE_FILE
from tests.factories import LETTER, browser_of, make_bob, make_gate, make_run
from tests.runs.gates.asking import (
    ALLOW,
    CONTENDERS,
    DENY,
    at_once,
    contender,
    decide,
    mailed_link,
    seen,
    types,
)

pytestmark = pytest.mark.django_db(transaction=True)


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


def test_a_decision_on_something_else_than_what_was_seen_is_refused(alice: Access) -> None:
    gate = make_gate(alice)
    with pytest.raises(Conflict, match="changed"):
        decide(alice, gate, digest="0" * 64)
    assert Gate.objects.get(pk=gate.pk).is_pending
    assert decide(alice, gate, digest=gate.digest).status == ALLOW


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


def test_switching_a_run_that_is_over_is_kept_for_its_replies(alice: Access) -> None:
    run = make_run(alice, status=RunStatus.COMPLETED)
    assert decisions.switch_mode(alice, run, "approval").permission_mode == "approval"
    with pytest.raises(Invalid, match="permission_mode"):
        decisions.switch_mode(alice, run, "yolo")


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
