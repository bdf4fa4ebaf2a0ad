"""A run stops at a budget before it spends a cent over it, and a person says how it goes on."""

import json
from decimal import Decimal
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from runs.budgets import definitions
from runs.creation.options import Options
from runs.gates import answers, decisions
from runs.lifecycle import endings
from runs.models import (
    Budget,
    BudgetCount,
    BudgetHold,
    Event,
    Gate,
    GateKind,
    Notice,
    Run,
    RunStatus,
    Step,
)
from teammates.access import Access
from teammates.errors import Forbidden, Invalid
from teammates.llm import catalog
from teammates.models import APIKey, ModelPrice
from teammates.people import end_users
from tests.api import call
from tests.factories import browser_of, make_key, make_run
from tests.fake_models import FakeModels, chat
from tests.runs.budgets.spending import begin, end
from tests.runs.execution.calling import wait
from tests.runs.execution.working import finish, run_on, types, work_until
from tests.runs.gates.asking import mailed_link

pytestmark = pytest.mark.django_db(transaction=True)


def set_budget(access: Access, amount: str, **fields: Any) -> Budget:
    return definitions.set_budget(
        access, **{"period": "month", "action": "pause"} | fields, amount=amount
    )


def stopped(run: Run) -> Gate:
    """Work until the run waits at a budget, and return its gate."""
    gate = wait(run)
    assert gate.kind == GateKind.BUDGET
    return gate


def asked(models: FakeModels) -> int:
    return len(models.requests)


def only_count(budget: Budget) -> BudgetCount:
    return budget.counts.get()


def test_what_a_run_spends_within_a_budget_is_counted_and_the_rest_given_back(
    alice: Access, models: FakeModels
) -> None:
    budget = set_budget(alice, "5")
    run = finish(run_on(alice, models, "openai_compatible", "ok"))
    count = only_count(budget)
    assert run.cost
    assert (count.spent, count.kept, count.reserved) == (run.cost, 0, 0)
    assert not BudgetHold.objects.exists()


def test_a_call_that_does_not_fit_is_not_made_and_a_person_is_asked(
    alice: Access, models: FakeModels
) -> None:
    budget = set_budget(alice, "0.50")  # an answer of 8192 tokens may cost 82 cents
    gate = stopped(run := run_on(alice, models, "openai_compatible", "ok"))
    assert asked(models) == 0
    assert not Step.objects.filter(run=run).exists()
    assert only_count(budget).reserved == 0
    assert "$0.00 of $0.50 a month is spent or reserved." in gate.prompt
    [question] = gate.request["questions"]
    assert [one["label"].split(" $")[0] for one in question["options"]] == [
        "Allow this run",
        "Raise the budget to",
        "Finish with a summary",
        "Stop",
    ]
    assert run.has_words_from_outside is False
    page = browser_of(alice).get("/needs-you/").content.decode()
    assert "has reached a budget" in page
    thread = browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()
    assert "Finish with a summary" in thread


def test_a_budget_is_decided_about_from_a_mail(alice: Access, models: FakeModels) -> None:
    set_budget(alice, "0.50")
    gate = stopped(run := run_on(alice, models, "openai_compatible", "ok"))
    link = mailed_link()
    assert "The next call may cost up to" in mail.outbox[-1].body
    assert "Finish with a summary" in mail.outbox[-1].body
    choice = gate.request["questions"][0]["options"][0]["label"]
    assert choice.startswith("Allow this run")
    form = {"request_id": str(gate.uid), "digest": gate.digest, "answer-0": choice}
    stranger = Client()
    assert "Allow this run" in stranger.get(link).content.decode()
    assert b"Thank you" in stranger.post(link, form).content
    assert finish(run).status == RunStatus.COMPLETED


def test_allowed_more_a_run_goes_on_and_no_other(alice: Access, models: FakeModels) -> None:
    budget = set_budget(alice, "0.50")
    stopped(run := run_on(alice, models, "openai_compatible", "ok"))
    answers.answer_text(alice, run, "allow 2")
    run = finish(run)
    assert run.status == RunStatus.COMPLETED
    granted = BudgetCount.objects.get(budget=None)
    assert (granted.granted, granted.spent, granted.reserved) == (2, run.cost, 0)
    assert only_count(budget).spent == run.cost
    other = make_run(alice, options=Options(model="openai_compatible-ok"))
    stopped(other)


def test_what_was_allowed_is_a_cap_too(alice: Access, models: FakeModels) -> None:
    set_budget(alice, "0.50")
    stopped(run := run_on(alice, models, "openai_compatible", "ok"))
    answers.answer_text(alice, run, "allow 0.60")
    stopped(run)
    assert asked(models) == 0


def test_raising_the_budget_lets_all_that_wait_go_on(alice: Access, models: FakeModels) -> None:
    budget = set_budget(alice, "0.50")
    stopped(first := run_on(alice, models, "openai_compatible", "ok"))
    second = make_run(alice, options=Options(model="openai_compatible-ok"))
    stopped(second)
    answers.answer_text(alice, first, "raise 50")
    assert finish(first).status == finish(second).status == RunStatus.COMPLETED
    budget.refresh_from_db()
    assert budget.amount == 50


def test_a_run_that_finishes_says_what_it_did_and_calls_nothing(
    alice: Access, models: FakeModels
) -> None:
    set_budget(alice, "0.50")
    stopped(run := run_on(alice, models, "openai_compatible", "ok"))
    call = {"index": 0, "id": "c1", "function": {"name": "list_files", "arguments": "{}"}}
    models.answers = [chat({"content": "That is it."}, {"tool_calls": [call]}, finish="tool_calls")]
    answers.answer_text(alice, run, "Finish with a summary")
    run = finish(run)
    assert (run.status, run.tool_calls.count()) == (RunStatus.COMPLETED, 0)
    [sent] = [one["body"] for one in models.requests]
    assert "ends with your next answer" in json.dumps(sent["messages"])
    assert sent.get("max_tokens") or sent.get("max_completion_tokens") == 1500


def test_a_stopped_run_ends(alice: Access, models: FakeModels) -> None:
    set_budget(alice, "0.50")
    stopped(run := run_on(alice, models, "openai_compatible", "ok"))
    answers.answer_text(alice, run, "stop")
    run.refresh_from_db()
    assert (run.status, asked(models)) == (RunStatus.CANCELLED, 0)


def test_a_budget_that_stops_fails_the_run_with_a_sentence(
    alice: Access, models: FakeModels
) -> None:
    set_budget(alice, "0.50", action="stop")
    run = finish(run_on(alice, models, "openai_compatible", "ok"))
    assert (run.status, run.error_class, asked(models)) == (RunStatus.FAILED, "budget.exceeded", 0)
    assert "Ask whoever manages budgets to raise it." in run.error_message


def test_a_budget_that_tells_stops_nothing(alice: Access, models: FakeModels) -> None:
    budget = set_budget(alice, "0.000001", action="tell")
    run = finish(run_on(alice, models, "openai_compatible", "ok"))
    assert (run.status, only_count(budget).spent) == (RunStatus.COMPLETED, run.cost)


def test_a_model_without_a_price_is_not_called_where_a_budget_holds(
    alice: Access, models: FakeModels
) -> None:
    set_budget(alice, "5")
    run = run_on(alice, models, "openai_compatible", "ok")
    ModelPrice.objects.filter(model__alias="openai_compatible-ok").delete()
    run = finish(run)
    assert (run.status, asked(models)) == (RunStatus.FAILED, 0)
    assert "has no price" in run.error_message
    assert "Models & prices" in run.error_message


def test_a_provider_that_bills_more_than_was_reserved_is_booked_and_nothing_more_is_made(
    alice: Access,
) -> None:
    run = make_run(alice)
    budget = set_budget(alice, "1")
    step = begin(run.pk, 1, Decimal("0.5"))
    assert step is not None
    end(step, Decimal("1.5"))  # it had more than the output that it was asked for at most
    count = only_count(budget)
    assert (count.spent, count.reserved) == (Decimal("1.5"), 0)
    assert begin(run.pk, 2, Decimal("0.000001")) is None


@pytest.mark.parametrize("scope", ["task", "api_key", "end_user"])
def test_a_budget_of_each_kind_is_a_cap(alice: Access, scope: str) -> None:
    run, other = make_run(alice), make_run(alice)
    make_key(alice)
    rows: dict[str, Any] = {
        "task": run.task,
        "api_key": APIKey.objects.get(),
        "end_user": end_users.create_end_user(alice, "kim"),
    }
    Run.objects.filter(pk=run.pk).update(**{scope: rows[scope]})
    set_budget(alice, "1", **{scope: rows[scope]})
    assert begin(run.pk, 1, Decimal("0.9")) is not None
    assert begin(run.pk, 2, Decimal("0.2")) is None
    assert begin(other.pk, 1, Decimal("5")) is not None


def test_what_costs_nothing_is_not_stopped(alice: Access) -> None:
    set_budget(alice, "0")
    assert finish(make_run(alice)).status == RunStatus.COMPLETED


def test_only_who_manages_budgets_lets_a_run_spend_more(
    alice: Access, bob: Access, models: FakeModels
) -> None:
    set_budget(alice, "0.50")
    run_on(alice, models, "openai_compatible", "ok")
    run = make_run(bob, options=Options(model="openai_compatible-ok"))
    stopped(run)
    for text in ("allow 1", "raise 50", "finish"):
        with pytest.raises(Forbidden):
            answers.answer_text(bob, run, text)
    assert decisions.pending_gate(run) is not None
    answers.answer_text(bob, run, "stop")
    assert Run.objects.get(pk=run.pk).status == RunStatus.CANCELLED


def test_another_answer_says_which_there_are(alice: Access, models: FakeModels) -> None:
    set_budget(alice, "0.50")
    stopped(run := run_on(alice, models, "openai_compatible", "ok"))
    with pytest.raises(Invalid, match="'allow 5'"):
        answers.answer_text(alice, run, "hm")
    assert decisions.pending_gate(run) is not None


def test_a_run_goes_on_by_itself_when_the_budget_begins_anew(
    alice: Access, models: FakeModels
) -> None:
    budget = set_budget(alice, "2", period="day")
    run = run_on(alice, models, "openai_compatible", "ok")
    only_today = BudgetCount.objects.create(
        budget=budget, starts_on=timezone.now().date(), spent=Decimal("1.5")
    )
    gate = stopped(run)
    assert gate.expires_at is not None
    assert gate.expires_at > timezone.now()
    only_today.delete()  # as if the day were over
    Gate.objects.update(expires_at=timezone.now())
    assert finish(run).status == RunStatus.COMPLETED


def test_a_cap_for_each_run_is_each_runs(alice: Access, models: FakeModels) -> None:
    budget = set_budget(alice, "2", period="run")
    first = finish(run_on(alice, models, "openai_compatible", "ok"))
    second = finish(make_run(alice, options=Options(model="openai_compatible-ok")))
    spent = {count.run_id: count.spent for count in budget.counts.all()}
    assert spent == {first.pk: first.cost, second.pk: second.cost}


def test_runs_that_a_run_starts_draw_from_its_budget(alice: Access, models: FakeModels) -> None:
    budget = set_budget(alice, "2", period="run")
    first = finish(run_on(alice, models, "openai_compatible", "ok"))
    child = make_run(alice, options=Options(model="openai_compatible-ok"))
    Run.objects.filter(pk=child.pk).update(started_by=first, root=first)
    child = finish(child)
    assert only_count(budget).run_id == first.pk
    assert only_count(budget).spent == (first.cost or 0) + (child.cost or 0)


def test_of_several_budgets_each_must_allow_it(alice: Access, models: FakeModels) -> None:
    wide = set_budget(alice, "100")
    run = run_on(alice, models, "openai_compatible", "ok")
    set_budget(alice, "0.50", teammate=run.teammate)
    gate = stopped(run)
    assert f"teammate {run.teammate}" in gate.card["why"]
    assert only_count(wide).reserved == 0


def test_a_call_that_a_worker_lost_keeps_what_it_can_have_cost(
    alice: Access, models: FakeModels
) -> None:
    budget = set_budget(alice, "50")
    models.answers = [chat({"content": "Half"}, finish=None, usage=False, done=False)] * 4
    run = finish(run_on(alice, models, "openai_compatible", "ok"))
    count = only_count(budget)
    worst = Decimal("0.8") * run.steps.count()
    assert (count.reserved, BudgetHold.objects.exists()) == (0, False)
    assert count.used > worst  # nobody told what they cost


def test_a_cancelled_run_gives_back_what_it_had_reserved(alice: Access, models: FakeModels) -> None:
    budget = set_budget(alice, "5")
    run = run_on(alice, models, "openai_compatible", "slow")

    def cancel() -> None:
        if BudgetHold.objects.exists():
            endings.cancel_run(run)

    work_until(lambda: Run.objects.get(pk=run.pk).is_finished, meanwhile=cancel)
    assert (only_count(budget).reserved, BudgetHold.objects.exists()) == (0, False)
    assert only_count(budget).used > 0


def test_managers_are_told_that_a_run_is_at_a_budget(alice: Access, models: FakeModels) -> None:
    set_budget(alice, "0.50")
    stopped(run_on(alice, models, "openai_compatible", "ok"))
    assert Notice.objects.filter(user=alice.user).exists()


def test_a_page_answers_it(alice: Access, models: FakeModels) -> None:
    set_budget(alice, "0.50")
    gate = stopped(run := run_on(alice, models, "openai_compatible", "ok"))
    [question] = gate.request["questions"]
    form = {
        "request_id": str(gate.uid),
        "digest": gate.digest,
        "decision": "answer",
        "answer-0": question["options"][0]["label"],
    }
    sent = browser_of(alice).post(f"/runs/{run.pk}/answer/", form)
    assert sent.status_code in (200, 302), sent.content
    assert finish(run).status == RunStatus.COMPLETED


def test_the_prices_that_hold_at_the_call_count(alice: Access, models: FakeModels) -> None:
    set_budget(alice, "0.50")
    run = run_on(alice, models, "openai_compatible", "ok")
    model = catalog.resolve_model(alice.organization, "openai_compatible-ok")
    catalog.set_price(alice, model, uncached_input="1", cache_read="1", cache_write="1", output="1")
    assert finish(run).status == RunStatus.COMPLETED
    assert types(run)[-1] == "run.completed"


def test_what_was_counted_of_the_last_request_is_not_guessed_again(
    alice: Access, models: FakeModels
) -> None:
    """The first request of 10 KB may have 10 000 tokens; once it had 100, the next has few more."""
    set_budget(alice, "2")
    reserved = []
    call = {"index": 0, "id": "c1", "function": {"name": "list_files", "arguments": "{}"}}

    def answer(body: dict[str, Any]) -> Any:
        reserved.append(BudgetHold.objects.get().amount)
        if any(message["role"] == "tool" for message in body["messages"]):
            return chat({"content": "None."})
        return chat({"tool_calls": [call]}, finish="tool_calls")

    models.answer = answer
    finish(run_on(alice, models, "openai_compatible", "ok"))
    first, second = reserved
    assert second < first - Decimal("0.15")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("allow, see TICKET-4711", "'allow 5'"),
        ("not sure", "'allow 5'"),
        ("note: wait", "'allow 5'"),
        ("allow -3", "'allow 5'"),
        ("allow 0", "how many dollars"),
        ("allow 999999999999", "amount"),
        ("raise 0.10", "already"),
        ("raise", None),
        ("raise 50,000", None),
        ("Allow this run $2.00 more", None),
    ],
)
def test_an_answer_is_taken_at_its_word_or_not_at_all(
    alice: Access, models: FakeModels, text: str, names: str | None
) -> None:
    budget = set_budget(alice, "0.50")
    stopped(run := run_on(alice, models, "openai_compatible", "ok"))
    if names is not None:
        with pytest.raises(Invalid, match=names):
            answers.answer_text(alice, run, text)
        assert decisions.pending_gate(run) is not None
        return
    answers.answer_text(alice, run, text)
    assert finish(run).status == RunStatus.COMPLETED
    budget.refresh_from_db()
    assert budget.amount == {"raise": 2, "raise 50,000": 50_000}.get(text, Decimal("0.50"))


def test_a_summary_fits_where_everything_is_spent(alice: Access, models: FakeModels) -> None:
    budget = set_budget(alice, "0.50", period="total")
    BudgetCount.objects.create(budget=budget, spent=Decimal("0.50"))
    stopped(run := run_on(alice, models, "openai_compatible", "ok"))
    answers.answer_text(alice, run, "finish")
    assert finish(run).status == RunStatus.COMPLETED


def test_what_is_allowed_is_not_beyond_a_budget_that_stops(
    alice: Access, models: FakeModels
) -> None:
    run = run_on(alice, models, "openai_compatible", "ok")
    set_budget(alice, "0.50", teammate=run.teammate)
    stopped(run)
    set_budget(alice, "0.60", action="stop")
    answers.answer_text(alice, run, "allow 5")
    run = finish(run)
    assert (run.status, run.error_class, asked(models)) == (RunStatus.FAILED, "budget.exceeded", 0)


@pytest.mark.parametrize("model", ["401", "404", "400", "503", "429"])
def test_a_provider_that_refuses_costs_no_budget_anything(
    alice: Access, models: FakeModels, model: str
) -> None:
    budget = set_budget(alice, "5")
    run = finish(run_on(alice, models, "openai_compatible", model))
    assert run.status == RunStatus.FAILED
    count = only_count(budget)
    assert (count.spent, count.kept, count.reserved) == (0, 0, 0)


def test_what_a_run_starts_draws_from_the_budgets_of_the_first(
    alice: Access, models: FakeModels
) -> None:
    first = finish(run_on(alice, models, "openai_compatible", "ok"))
    of_thread = set_budget(alice, "5", thread=first.thread)
    child = make_run(alice, options=Options(model="openai_compatible-ok"))
    Run.objects.filter(pk=child.pk).update(started_by=first, root=first)
    child = finish(child)
    assert child.thread_id != first.thread_id
    assert only_count(of_thread).spent == (first.cost or 0) + (child.cost or 0)


def test_a_price_that_rises_during_a_call_does_not_count_for_it(
    alice: Access, models: FakeModels
) -> None:
    run = run_on(alice, models, "openai_compatible", "ok")
    model = catalog.resolve_model(alice.organization, "openai_compatible-ok")
    before = model.price_now()
    assert before is not None

    def answer(body: dict[str, Any]) -> Any:
        prices = dict.fromkeys(("uncached_input", "cache_read", "cache_write", "output"), 9_000)
        ModelPrice.objects.create(model=model, **prices)
        return chat({"content": "Hm."})

    models.answer = answer
    assert (finish(run).cost or 0) < 1


def test_a_budget_that_is_deleted_lets_what_waits_go_on(alice: Access, models: FakeModels) -> None:
    budget = set_budget(alice, "0.50")
    stopped(run := run_on(alice, models, "openai_compatible", "ok"))
    definitions.delete_budget(alice, budget)
    assert finish(run).status == RunStatus.COMPLETED


def test_a_program_is_asked_and_answers_like_any_question(
    alice: Access, models: FakeModels
) -> None:
    key = make_key(alice)
    set_budget(alice, "0.50")
    gate = stopped(run := run_on(alice, models, "openai_compatible", "ok"))
    [listed] = call(key, "GET", f"/api/v2/runs/{run.pk}/permissions").json()
    assert (listed["request_id"], listed["tool_name"]) == (str(gate.uid), "AskUserQuestion")
    [question] = listed["tool_input"]["questions"]
    answered = call(
        key, "POST", f"/api/v2/runs/{run.pk}/answer", {"answers": {question["question"]: "allow 2"}}
    )
    assert answered.status_code == 200, answered.content
    assert finish(run).status == RunStatus.COMPLETED
    events = Event.objects.filter(run=run, type="run.waiting_for_input")
    assert [event.data["tool_name"] for event in events] == ["AskUserQuestion"]
