"""Tool calls, written down: begun, made, what came of them."""

import pytest

from runs.creation.options import Options
from runs.gates import answers, decisions
from runs.models import CallStatus
from teammates.access import Access
from teammates.integrations import tool_policies
from tests.factories import make_run
from tests.fake_servers import FakeShop
from tests.runs.execution.calling import add_shop, call_of, run_with, wait
from tests.runs.execution.working import finish, types
from threads.models import File

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_result_over_the_limit_becomes_a_file_and_a_note(home: Access, shop: FakeShop) -> None:
    add_shop(home, shop)
    run = finish(run_with(home, "use shop__huge"))
    call = call_of(run, "shop__huge")
    assert call.result["file"] == f"shop__huge-{call.pk}.json"
    assert len(str(call.result)) < 6_000
    file = File.objects.get(name=call.result["file"])
    assert file.size > 200_000
    assert "file.created" in types(run)


def test_a_change_without_an_answer_is_unknown_and_a_person_says_what_happened(
    home: Access, shop: FakeShop
) -> None:
    add_shop(home, shop, auto_approve=True)
    run = run_with(home, "use shop__drop")
    gate = wait(run)
    assert gate.kind == "unknown"
    assert any("broke the connection" in line for line in gate.card["known"])
    assert sum(shop.counts.values()) == 1
    answers.answer_text(home, run, "retry")
    again = wait(run)
    assert (again.kind, list(shop.counts.values())) == ("unknown", [2])  # the same key
    answers.answer_text(home, run, "yes: I looked")
    run = finish(run)
    assert list(shop.counts.values()) == [2]
    assert "I looked" in str(call_of(run, "shop__drop").result)


def test_a_call_is_not_made_under_a_mode_that_became_stricter(alice: Access) -> None:
    from runs.execution import call_journal
    from runs.gates.policy import evaluate
    from teammates.tools.files import WRITE_FILE
    from tests.factories import make_call

    run = make_run(alice)
    lease, call = make_call(run, WRITE_FILE, {"name": "a.txt", "content": "x"})
    decision = evaluate(run.pk, WRITE_FILE, {"name": "a.txt", "content": "x"})
    assert decision.kind == "go"
    decisions.switch_mode(alice, run, "approval")
    arguments = {"name": "a.txt", "content": "x"}
    with pytest.raises(call_journal.PolicyChanged):
        call_journal.begin_call(
            lease, [], call=call, tool=WRITE_FILE, arguments=arguments, decision=decision
        )
    assert "tool.call" not in types(run)
    assert call.status == CallStatus.PENDING  # as it was: it is judged anew


def test_a_call_is_not_made_under_a_permission_that_was_revoked(alice: Access) -> None:
    from runs.execution import call_journal
    from runs.gates.policy import evaluate
    from teammates.tools.files import WRITE_FILE
    from tests.factories import make_call

    policy, _ = tool_policies.allow_tool(alice, "write_file")
    run = make_run(alice, options=Options(permission_mode="approval"))
    arguments = {"name": "a.txt", "content": "x"}
    lease, call = make_call(run, WRITE_FILE, arguments)
    decision = evaluate(run.pk, WRITE_FILE, arguments)
    assert decision.policy == policy
    tool_policies.revoke(alice, policy.pk)
    with pytest.raises(call_journal.PolicyChanged):
        call_journal.begin_call(
            lease, [], call=call, tool=WRITE_FILE, arguments=arguments, decision=decision
        )
    tool_policies.set_tool(alice, "write_file", mode="off")
    assert evaluate(run.pk, WRITE_FILE, arguments).reason == "switched_off"
