"""What a gate's card says. The words are the registry's and the server's, never the
model's: what the teammate itself wrote is marked as such. Secrets are masked.
"""

import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from runs.gates import answers, cards, decisions
from runs.models import (
    Event,
    Gate,
    GateKind,
    Notice,
    Run,
    ToolCall,
)
from runs.notifications import mailer
from teammates.access import Access
from teammates.errors import Conflict, Forbidden
from teammates.integrations import tool_policies
from teammates.people import api_keys
from teammates.tools.files import WRITE_FILE
from teammates.tools.masking import MASK
from tests.api import call
from tests.factories import LETTER, browser_of, make_bob, make_gate, make_key, with_key
from tests.runs.gates.asking import ALLOW, DENY, PAY, decide, hiding_gate, types

pytestmark = pytest.mark.django_db(transaction=True)


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
