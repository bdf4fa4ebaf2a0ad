"""What a call that broke off may have cost counts: nobody knows what its provider bills."""

from decimal import Decimal

import pytest

from runs.budgets import definitions
from runs.models import RunStatus, StepStatus
from teammates.access import Access
from teammates.llm import catalog
from teammates.models import Model
from tests.fake_models import STREAM, Answer, FakeModels, chat, event, refused
from tests.runs.execution.working import finish, run_on

pytestmark = pytest.mark.django_db(transaction=True)


def broken(kind: str) -> Answer:
    """Anthropic's words of a tool call, which nobody sees before they are whole, and an error."""
    begun = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": []}
    begun |= {"stop_reason": None, "usage": {"input_tokens": 5000, "output_tokens": 1}}
    block = {"type": "tool_use", "id": "c1", "name": "write_file", "input": {}}
    words = ['{"name": "a.txt", "content": "', *["x" * 4_000] * 10]
    deltas = [{"type": "input_json_delta", "partial_json": one} for one in words]
    pieces = [
        event("message_start", message=begun),
        event("content_block_start", index=0, content_block=block),
        *(event("content_block_delta", index=0, delta=delta) for delta in deltas),
        event("error", error={"type": kind, "message": "No more"}),
    ]
    return 200, STREAM, pieces


@pytest.mark.parametrize("kind", ["overloaded_error", "rate_limit_error", "api_error"])
def test_answers_that_break_off_do_not_add_up_to_more_than_a_cap(
    alice: Access, models: FakeModels, kind: str
) -> None:
    budget = definitions.set_budget(alice, period="month", amount="1.30", action="stop")
    models.answers = [broken(kind) for _ in range(4)]
    run = run_on(alice, models, "anthropic", "ok")
    Model.objects.filter(alias="anthropic-ok").update(max_output_tokens=10_008)
    run = finish(run)
    assert len(models.requests) == 1
    step = run.steps.get(status=StepStatus.STOPPED)
    assert (step.input_tokens, step.usage_estimated) == (5000, True)
    assert step.output_tokens > 10_000
    count = budget.counts.get()
    assert (count.spent, count.reserved) == (step.cost, 0)
    assert Decimal(1) < count.spent + count.kept <= Decimal("1.30")


@pytest.mark.parametrize(
    ("status", "calls"), [(504, 1), (408, 1), (500, 4), (502, 4), (503, 4), (529, 4)]
)
def test_a_time_out_of_somebody_between_may_have_cost_something(
    alice: Access, models: FakeModels, status: int, calls: int
) -> None:
    models.answers = [refused(status, "No answer") for _ in range(4)]
    run = run_on(alice, models, "openai_compatible", "ok")
    Model.objects.filter(alias="openai_compatible-ok").update(max_output_tokens=10_000)
    budget = definitions.set_budget(alice, period="month", amount="1.30", action="stop")
    finish(run)
    assert len(models.requests) == calls
    assert bool(budget.counts.get().kept) == (calls == 1)


def test_nothing_told_of_a_long_answer_is_not_taken_at_its_word(
    alice: Access, models: FakeModels
) -> None:
    told = {"prompt_tokens": 100, "completion_tokens": 0, "total_tokens": 100}
    models.answers = [chat({"content": "word " * 8_000}, usage=told)]
    run = finish(run_on(alice, models, "openai_compatible", "ok"))
    assert run.status == RunStatus.COMPLETED
    step = run.steps.get()
    assert (step.output_tokens, step.usage_estimated) == (10_000, True)


def test_a_fallback_is_reserved_for_at_its_own_price(alice: Access, models: FakeModels) -> None:
    run = run_on(alice, models, "openai_compatible", "404")
    dear = catalog.add_model(
        alice,
        run.route.provider,
        alias="dear",
        name="ok",
        prices=dict.fromkeys(catalog.LANES, "10000"),
    )
    Model.objects.filter(pk=run.route_id).update(fallback=dear)
    definitions.set_budget(alice, period="month", amount="2", action="stop")
    ended = finish(run)
    assert (ended.status, ended.error_class) == (RunStatus.FAILED, "budget.exceeded")
    assert [request["body"]["model"] for request in models.requests] == ["404"]
