"""A model step is over: its turn, usage and cost, and with it perhaps the run."""

from typing import Any

import pytest

from runs.creation.options import Options
from runs.models import (
    RunStatus,
)
from teammates.access import Access
from teammates.models import ModelPrice
from tests.factories import make_run
from tests.fake_models import FakeModels
from tests.runs.execution.calling import SCHEMA
from tests.runs.execution.working import finish, run_on

pytestmark = pytest.mark.django_db(transaction=True)


def test_no_price_means_no_cost_rather_than_a_wrong_one(alice: Access, models: FakeModels) -> None:
    run = run_on(alice, models, "openai", "ok")
    ModelPrice.objects.filter(model=run.route).delete()
    run = finish(run)
    assert run.status == RunStatus.COMPLETED
    assert (run.cost, run.credits_used) == (None, None)


def test_a_run_with_an_output_schema_gives_its_result_in_that_form(alice: Access) -> None:
    run = finish(make_run(alice, options=Options(output_schema=SCHEMA)))
    run.refresh_from_db()
    assert run.output_data == {"total": 3, "items": ["demo", "demo"]}


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('Here: {"total": 5, "items": ["a", "b"]} ok', {"total": 5, "items": ["a", "b"]}),
        ('{"total": 1, "items": []}', None),
        ("no JSON", None),
        ("{broken", None),
    ],
)
def test_a_result_that_was_only_said_is_read_from_the_text(
    alice: Access, text: str, data: Any
) -> None:
    from runs.execution import step_completion

    run = make_run(alice, options=Options(output_schema=SCHEMA))
    step_completion._read_result_from(text, run)
    run.refresh_from_db()
    assert run.output_data == data
