"""The loop that runs a teammate, one step at a time."""

import pytest

from runs.creation.options import Options
from runs.gates import answers
from runs.models import Run, RunStatus
from teammates.access import Access
from teammates.roster import lookup
from tests.factories import make_run
from tests.fake_models import FakeModels
from tests.runs.execution.working import finish, types, work_until
from threads.models import File

pytestmark = pytest.mark.django_db(transaction=True)


def test_max_turns_is_a_bound(alice: Access, models: FakeModels) -> None:
    options = Options(model="demo", max_turns=1)
    run = finish(make_run(alice, message="todo file", options=options))
    assert (run.status, run.error_class) == (RunStatus.FAILED, "run.max_turns")


def test_a_question_waits_without_a_worker_and_goes_on(alice: Access) -> None:
    run = make_run(alice, message="ask me something")
    work_until(lambda: Run.objects.get(pk=run.pk).status == RunStatus.WAITING)
    run.refresh_from_db()
    assert (run.worker, run.lease_until) == ("", None)
    answers.answer_text(alice, run, "Medium")
    run = finish(run)
    assert run.answer is not None
    assert "Medium" in run.answer.content
    order = types(run)
    assert order.index("tool.call") < order.index("run.waiting_for_input")
    assert order.index("run.input_provided") < order.index("tool.result")


@pytest.mark.parametrize("allow", [True, False])
def test_an_approval_is_asked_before_the_call(alice: Access, allow: bool) -> None:
    run = make_run(alice, message="approve it")
    work_until(lambda: Run.objects.get(pk=run.pk).status == RunStatus.WAITING)
    assert "tool.call" not in types(run)
    run.refresh_from_db()
    answers.answer_text(alice, run, "approve" if allow else "deny: because")
    run = finish(run)
    assert run.answer is not None
    assert ("tool.result" in types(run)) == allow
    assert ("tool.denied" in types(run)) == (not allow)
    assert ("because" in run.answer.content) == (not allow)


def test_a_teammate_that_asks_first_asks_before_it_writes(alice: Access) -> None:
    careful = lookup.get_persona(alice, "work")[0]
    run = make_run(alice, message="file plan.txt", teammate=careful)
    work_until(lambda: Run.objects.get(pk=run.pk).status == RunStatus.WAITING)
    assert not File.objects.exists()
    run.refresh_from_db()
    answers.answer_text(alice, run, "yes")
    finish(run)
    assert File.objects.get().name == "plan.txt"
