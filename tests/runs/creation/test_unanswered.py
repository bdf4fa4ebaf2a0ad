"""What a program posts is answered, whatever ends in between (v1's runs on a thread as it is)."""

import threading
from typing import Any

import pytest
from django.db import connection

from runs.creation import conversation
from runs.execution import context
from runs.models import Run, RunStatus
from teammates.access import Access
from tests.factories import bring_to, make_run, make_thread
from threads import conversations
from threads.models import Message, Thread


def post(access: Access, thread: Thread, text: str) -> Message:
    return conversations.post_message(access, thread, text)


def start(access: Access, thread: Thread) -> Run:
    """POST /v1/threads/{id}/runs, without words of its own."""
    return conversation.run_in_thread(access, thread)


def said_to(run: Run) -> list[str]:
    return [said.text for said in context.conversation(run, context.request_of(run), [])]  # type: ignore[union-attr]


@pytest.mark.django_db
def test_what_is_posted_while_a_run_works_is_the_next_ones(alice: Access) -> None:
    thread = make_thread(alice)
    first = make_run(alice, thread=thread, message="one")
    later = post(alice, thread, "two")
    bring_to(first, RunStatus.COMPLETED)
    second = start(alice, thread)
    assert second.prompt == later
    assert said_to(second) == ["one", "An answer.", "two"]


@pytest.mark.django_db
def test_several_are_answered_together(alice: Access) -> None:
    thread = make_thread(alice)
    first = make_run(alice, thread=thread, message="one")
    post(alice, thread, "two")
    last = post(alice, thread, "three")
    bring_to(first, RunStatus.COMPLETED)
    second = start(alice, thread)
    assert second.prompt == last
    assert said_to(second) == ["one", "An answer.", "two", "three"]
    bring_to(second, RunStatus.COMPLETED)
    assert start(alice, thread).prompt is None


@pytest.mark.django_db
@pytest.mark.parametrize("end", [RunStatus.FAILED, RunStatus.CANCELLED])
def test_a_run_that_ended_without_a_word_answered_nothing(alice: Access, end: str) -> None:
    thread = make_thread(alice)
    first = make_run(alice, thread=thread, message="one", status=end)
    Message.objects.filter(answered_by=first).delete()
    again = start(alice, thread)
    assert again.prompt == first.prompt
    last = post(alice, thread, "two")
    bring_to(again, RunStatus.COMPLETED)
    assert start(alice, thread).prompt == last


@pytest.mark.django_db
def test_what_a_copy_begins_with_is_answered(alice: Access) -> None:
    run = make_run(alice, message="one", status=RunStatus.COMPLETED)
    fork = conversation.fork_thread(alice, run)
    assert start(alice, fork).prompt is None
    said = post(alice, fork, "two")
    assert start(alice, fork).prompt == said


@pytest.mark.django_db(transaction=True)
def test_of_two_runs_at_once_one_takes_the_message(alice: Access) -> None:
    thread = make_thread(alice)
    post(alice, thread, "one")
    made: list[Any] = []

    def make() -> None:
        try:
            made.append(start(alice, thread).prompt_id)
        finally:
            connection.close()

    both = [threading.Thread(target=make) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len([prompt for prompt in made if prompt is not None]) == 1
    assert len(made) == 2
