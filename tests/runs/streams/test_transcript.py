"""Events folded into what a page shows."""

from typing import Any

import pytest

from runs.events import log
from runs.models import RunStatus
from teammates.access import Access
from tests.factories import browser_of, claim, make_run, say

pytestmark = pytest.mark.django_db


def test_a_long_run_is_shown_to_its_end(alice: Access) -> None:
    from runs.execution import step_completion, step_journal
    from runs.lifecycle.endings import Outcome
    from teammates.llm import catalog
    from teammates.providers.base import ModelRequest, TextPart, TokenUsage, Turn

    run = make_run(alice)
    lease = claim(run)
    route = catalog.resolve_model(alice.organization)
    begin = step_journal.BeginModelStep(run, 1, ModelRequest("demo", "", []), route)
    write = step_journal.Write(lease, [], begin)
    step = step_journal.begin_model_steps([write])[run.pk]
    text = "word " * 6000
    for _ in range(60):
        log.append([log.Batch(run.pk, lease.fence, [say("word ") for _ in range(100)])])
    run.refresh_from_db()
    complete = step_completion.CompleteModelStep(
        run,
        step,
        route,
        step_completion.ModelResult(Turn([TextPart(text + "the end")]), TokenUsage(1, 1), 1),
        outcome=Outcome(RunStatus.COMPLETED, text=text),
    )
    step_completion.complete_alone(lease, [], complete)
    page: Any = browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()
    assert "the end" in page
