"""What a run consumed is booked once."""

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs.lifecycle import endings
from runs.lifecycle.endings import Outcome
from runs.models import Run, RunStatus, Step, StepKind, StepStatus, Usage
from teammates.access import Access
from teammates.llm import catalog
from tests.factories import claim, make_run

pytestmark = pytest.mark.django_db


def end_with_steps(alice: Access, *costs: str | None) -> Any:
    """A finished run of two models, a step of the first for each cost and a free one of another."""
    run = make_run(alice)
    lease = claim(run)
    for number, cost in enumerate((*costs, "0"), start=1):
        Step.objects.create(
            run=run,
            number=number,
            attempt=1,
            first_seq=number,
            last_seq=number,
            started_at=timezone.now(),
            kind=StepKind.MODEL,
            status=StepStatus.DONE,
            model_name="dear" if number <= len(costs) else "free",
            request={"whole": "prompt"},
            input_tokens=10,
            cache_read_tokens=4,
            cost=cost,
            usage_estimated=number == 1,
        )
    return endings.finish_run(lease, [], Outcome(RunStatus.COMPLETED))


def test_a_row_for_each_model_and_their_sums_on_the_run(alice: Access) -> None:
    run = end_with_steps(alice, "0.25", "0.5")
    rows = Usage.objects.filter(run=run).order_by("id")
    numbers = rows.values_list(
        "model_name", "input_tokens", "cache_read_tokens", "cost", "estimated"
    )
    assert list(numbers) == [
        ("dear", 20, 8, Decimal("0.75"), True),
        ("free", 10, 4, Decimal(0), False),
    ]
    assert (run.input_tokens, run.cost, run.usage_estimated) == (30, Decimal("0.75"), True)
    run.refresh_from_db()
    assert (run.input_tokens, run.cost, run.usage_estimated) == (30, Decimal("0.75"), True)


def test_one_unknown_cost_makes_the_sum_unknown(alice: Access) -> None:
    run = end_with_steps(alice, "0.25", None)
    assert run.cost is None
    rows = Usage.objects.filter(run=run).order_by("id").values_list("cost", "unpriced_calls")
    assert list(rows) == [(Decimal("0.25"), 1), (Decimal(0), 0)]


def test_adding_up_numbers_reads_no_conversation(alice: Access) -> None:
    with CaptureQueriesContext(connection) as queries:
        end_with_steps(alice, "1")
    reads = [one["sql"] for one in queries if one["sql"].lstrip().startswith("SELECT")]
    assert not [sql for sql in reads if '"request"' in sql or "s.*" in sql]


@pytest.mark.parametrize(
    ("error_class", "is_asked"),
    [
        ("", True),  # its worker died
        ("provider.silent", True),
        ("provider.too_slow", True),
        ("provider.unreachable", False),
        ("provider.rate_limited", False),
    ],
)
def test_a_call_of_which_nothing_was_heard_has_read_what_it_was_sent(
    alice: Access, error_class: str, is_asked: bool
) -> None:
    provider = catalog.create_provider(alice, name="P", kind="openai", api_key="k")
    prices = {"uncached_input": "10", "cache_read": "1", "cache_write": "12", "output": "50"}
    model = catalog.add_model(alice, provider, alias="m", name="m", prices=prices)
    run = make_run(alice)
    Run.objects.filter(pk=run.pk).update(route=model)
    run.refresh_from_db()
    step = Step.objects.create(
        run=run,
        number=1,
        kind=StepKind.MODEL,
        attempt=1,
        first_seq=1,
        started_at=timezone.now(),
        model_name="m",
        request={"conversation": ["x" * 4_000]},
    )
    endings.stop_unfinished_step(run, error_class=error_class)
    step.refresh_from_db()
    assert step.usage_estimated == is_asked
    assert (step.input_tokens > 1_000) == is_asked
    assert step.cost == Decimal(step.input_tokens) / 100_000
