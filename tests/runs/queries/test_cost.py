"""What a run cost, lane by lane."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from runs.models import Run, Step, StepKind, StepStatus
from runs.queries.cost import cost_of
from teammates.access import Access
from teammates.llm import catalog
from teammates.models import Model
from tests.factories import browser_of, make_run

pytestmark = pytest.mark.django_db


@pytest.fixture
def model(alice: Access) -> Model:
    provider = catalog.create_provider(alice, name="P", kind="openai", api_key="k")
    prices = {"uncached_input": "10", "cache_read": "1", "cache_write": "20", "output": "100"}
    return catalog.add_model(alice, provider, alias="m", name="m", prices=prices)


def add_step(run: Run, number: int, **fields: Any) -> Step:
    now = timezone.now()
    tokens = {
        "input_tokens": 1_000_000,
        "cache_read_tokens": 600_000,
        "cache_write_tokens": 100_000,
        "output_tokens": 10_000,
        "cost": Decimal("6.6"),
        "started_at": now,
        "finished_at": now,
        "status": StepStatus.DONE,
    }
    return Step.objects.create(
        run=run,
        number=number,
        kind=StepKind.MODEL,
        attempt=1,
        first_seq=1,
        model_alias="m",
        **(tokens | fields),
    )


def test_each_lane_has_its_tokens_and_its_cost(alice: Access, model: Model) -> None:
    run = make_run(alice)
    add_step(run, 1)
    add_step(run, 2)
    [found] = cost_of(run)
    assert [(lane.tokens, lane.cost) for lane in found.lanes.values()] == [
        (600_000, 6),
        (1_200_000, Decimal("1.2")),
        (200_000, 4),
        (20_000, 2),
    ]
    assert sum(lane.cost or 0 for lane in found.lanes.values()) == found.cost == Decimal("13.2")


def test_a_step_costs_what_was_the_price_then(alice: Access, model: Model) -> None:
    run = make_run(alice)
    early = timezone.now() - timedelta(days=2)
    model.prices.update(valid_from=early - timedelta(days=1))
    add_step(run, 1, started_at=early, finished_at=early)
    prices = {"uncached_input": "0", "cache_read": "0", "cache_write": "0", "output": "0"}
    catalog.set_price(alice, model, **prices)
    [found] = cost_of(run)
    assert found.lanes["output"].cost == 1


def test_a_call_under_way_hides_nothing(alice: Access, model: Model) -> None:
    run = make_run(alice)
    add_step(run, 1)
    add_step(run, 2, status=StepStatus.RUNNING, cost=None, finished_at=None)
    [found] = cost_of(run)
    assert found.is_known
    assert found.lanes["output"].cost == 1


def test_what_has_no_price_is_not_known(alice: Access, model: Model) -> None:
    run = make_run(alice)
    add_step(run, 1, cost=None)
    [found] = cost_of(run)
    assert not found.is_known
    assert found.lanes["output"].cost is None
    page = browser_of(alice).get(f"/runs/{run.pk}/cost/").content.decode()
    assert "not known" in page
    assert "10,000" in page


def test_of_another_organization_nothing_is_shown(alice: Access, eve: Access) -> None:
    run = make_run(eve)
    assert browser_of(alice).get(f"/runs/{run.pk}/cost/").status_code == 404
    assert (
        "No model has worked yet" in browser_of(eve).get(f"/runs/{run.pk}/cost/").content.decode()
    )
