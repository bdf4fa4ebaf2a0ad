"""What people do in a conversation."""

import pytest

from runs.creation import conversation, retries
from runs.execution import context
from runs.models import Channel, HistoryOf, Run, RunStatus
from teammates.access import Access
from tests.factories import make_run
from threads import conversations
from threads.models import Message

pytestmark = pytest.mark.django_db


def answered(run: Run, text: str) -> Run:
    run.answer = Message.objects.create(thread=run.thread, role="assistant", content=text)
    run.status, run.finished_at = RunStatus.COMPLETED, run.created_at
    run.save()
    return run


def failed(run: Run) -> Run:
    Run.objects.filter(pk=run.pk).update(
        status=RunStatus.FAILED, finished_at=run.created_at, error_class="e", error_message="e"
    )
    return Run.objects.get(pk=run.pk)


def test_a_fork_says_a_question_that_was_asked_again_once_and_keeps_the_order(
    alice: Access,
) -> None:
    first = failed(make_run(alice, message="How much?"))
    again, _ = retries.retry_run(alice, first)
    answered(again, "Ten.")
    conversations.post_message(alice, first.thread, "By the way.")
    last = answered(make_run(alice, message="And now?", thread=first.thread), "Eleven.")
    fork = conversation.fork_thread(alice, last)
    said = Message.objects.filter(thread=fork).order_by("pk").values_list("content", flat=True)
    assert list(said) == ["How much?", "Ten.", "By the way.", "And now?", "Eleven."]


def test_a_run_is_told_a_question_that_was_asked_again_once(alice: Access) -> None:
    first = failed(make_run(alice, message="How much?", channel=Channel.API))
    again, _ = retries.retry_run(alice, first)
    answered(again, "Ten.")
    later = make_run(alice, message="Again?", channel=Channel.API)
    Run.objects.filter(pk=later.pk).update(history_of=HistoryOf.TEAMMATE)
    told = context._of_earlier_runs(Run.objects.select_related("thread").get(pk=later.pk))
    assert [getattr(one, "text", None) for one in told] == ["How much?", "Ten."]
