"""Events folded into what a page shows."""

from typing import Any

import pytest

from runs.events import log
from runs.models import RunStatus
from teammates.access import Access
from tests.factories import browser_of, claim, make_run, say

pytestmark = pytest.mark.django_db


def test_a_long_run_is_shown_to_its_end(alice: Access) -> None:
    from runs.execution import step_journal
    from runs.lifecycle.endings import Outcome
    from teammates.llm import catalog
    from teammates.providers.base import ModelRequest, TextPart, TokenUsage, Turn

    run = make_run(alice)
    lease = claim(run)
    route = catalog.resolve_model(alice.organization)
    step = step_journal.begin_model_step(
        lease, [], request=ModelRequest("demo", "", []), route=route
    )
    assert step is not None
    text = "word " * 6000
    for _ in range(60):
        log.append([log.Batch(run.pk, lease.fence, [say("word ") for _ in range(100)])])
    step_journal.complete_model_step(
        lease,
        [],
        step=step,
        route=route,
        outcome=Outcome(RunStatus.COMPLETED, text=text),
        result=step_journal.ModelResult(Turn([TextPart(text + "the end")]), TokenUsage(1, 1), 1),
    )
    page: Any = browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()
    assert "the end" in page
