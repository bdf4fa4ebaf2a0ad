"""What a run consumed is booked once."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs.models import Step, StepKind, StepStatus
from runs.usage.booking import book_usage
from teammates.access import Access
from tests.factories import make_run

pytestmark = pytest.mark.django_db


def test_adding_up_numbers_reads_no_conversation(alice: Access) -> None:
    run = make_run(alice)
    for number in (1, 2):
        Step.objects.create(
            run=run,
            number=number,
            attempt=1,
            first_seq=number,
            last_seq=number,
            started_at=timezone.now(),
            kind=StepKind.MODEL,
            status=StepStatus.DONE,
            model_name="demo",
            request={"whole": "prompt"},
            input_tokens=10,
        )
    with CaptureQueriesContext(
        connection,
    ) as queries:
        booked = book_usage(run)
    assert booked["input_tokens"] == 20
    assert len(queries) == 2
    assert not [one for one in queries if '"request"' in one["sql"]]
