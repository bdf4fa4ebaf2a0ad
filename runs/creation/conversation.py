"""Runs of a conversation, as pages and v1 ask for them; and what people do in its queue."""

from collections.abc import Sequence
from dataclasses import replace

from django.db import transaction

from runs.creation.attachments import Attachment
from runs.creation.enqueue import RunRequest, enqueue
from runs.creation.options import Options, check_options, options_of_run
from runs.creation.requests import count_uploads, usable_teammate, write_and_attach
from runs.lifecycle import endings
from runs.models import ACTIVE, Channel, Run, RunStatus
from teammates.access import Access
from teammates.errors import Conflict, Forbidden
from teammates.llm import catalog
from teammates.models import Teammate
from teammates.providers.base import UNFINISHED
from teammates.roster import lookup
from threads import conversations
from threads.models import Message, Thread

GO_ON = "Go on exactly where you stopped."


def start_thread(
    access: Access,
    *,
    message: str,
    teammate: Teammate | None,
    options: Options | None = None,
    attachments: Sequence[Attachment] = (),
) -> Run:
    """The pages: a conversation with its first message and run, all or nothing."""
    with transaction.atomic():
        thread = conversations.create_thread(access, teammate=teammate)
        return run_in_thread(
            access,
            thread,
            message=message,
            teammate=teammate,
            options=options,
            channel=Channel.APP,
            attachments=attachments,
        )


def run_in_thread(
    access: Access,
    thread: Thread,
    *,
    message: str | None = None,
    teammate: Teammate | None = None,
    persona_id: str | None = None,
    route_id: str | None = None,
    options: Options | None = None,
    channel: Channel = Channel.API,
    attachments: Sequence[Attachment] = (),
) -> Run:
    """v1 and the pages: a run on the thread as it stands, or with a new message.

    Raises `Invalid`, `NotFound` (persona, route).
    """
    access.require("data.runs.write", thread)
    options = check_options(access, options or Options())
    count_uploads(access, attachments)
    with transaction.atomic():
        if persona_id is not None:
            teammate, version = lookup.get_persona(access, persona_id)
        else:
            if teammate is None and thread.teammate_id is not None:  # unless it is archived
                teammate = lookup.find_current(replace(access, end_user=None), thread.teammate_id)
            teammate = teammate or lookup.default_teammate(access)
            version = teammate.current_version
        # Somebody is there to ask: the mode says what needs asking.
        options = replace(options, human_in_the_loop=options.human_in_the_loop is not False)
        if route_id:
            options = replace(options, route=catalog.get_route(access.organization, route_id))
        prompt = None if message is None else conversations.post_message(access, thread, message)
        request = RunRequest(
            thread,
            prompt,
            teammate,
            options,
            channel,
            version=version,
            persona_id=persona_id or "",
            takes_unanswered=message is None,
        )
        run = enqueue(access, request)
        write_and_attach(run, attachments)
        return run


def continue_run(access: Access, run: Run) -> Run:
    """Ask for the rest of an answer that was cut off, with the settings of its run; again is the
    same run.

    Raises `Conflict` for an answer that is whole.
    """
    access.require("data.runs.write", run)
    if run.stop_reason not in UNFINISHED:
        raise Conflict("This answer is whole.", code="runs.not_cut_off")
    with transaction.atomic():
        # The run's row is the lock: of two that ask at once, the second finds the first's run.
        Run.objects.select_for_update(no_key=True).get(pk=run.pk)
        behind = Run.objects.filter(thread=run.thread_id, position__gt=run.position)
        asked = behind.filter(prompt__content=GO_ON).order_by("position").first()
        return asked or run_in_thread(
            access,
            run.thread,
            message=GO_ON,
            teammate=usable_teammate(access, run.teammate_id),
            options=options_of_run(run),
            channel=Channel.APP,
        )


def stop_others(access: Access, run: Run) -> None:
    """Cancel what keeps a queued run waiting in its thread, so that it comes next.

    Raises `Conflict` if it does not wait in the queue.
    """
    access.require("data.runs.write", run)
    if run.status != RunStatus.QUEUED:
        raise Conflict(
            "This message is being worked on already. Send your words as the next one.",
            code="runs.not_queued",
        )
    ahead = Run.objects.filter(thread=run.thread_id, status__in=ACTIVE, position__lt=run.position)
    for other in ahead.order_by("position"):
        endings.stop_run(access, other)


def edit_queued(access: Access, run: Run, message: str) -> Run:
    """Edit a queued message, which is its author's alone. Holds the run's row.

    Raises `Forbidden`, `Invalid`, `Conflict` once it is being worked on.
    """
    access.require("data.runs.write", run)
    content = conversations.checked_message(message)
    with transaction.atomic():
        locked = Run.objects.select_for_update(of=("self",), no_key=True).for_list().get(pk=run.pk)
        if locked.status != RunStatus.QUEUED or locked.attempt or locked.prompt is None:
            raise Conflict(
                "This message is being worked on already. Send your words as the next one.",
                code="runs.not_queued",
            )
        if locked.prompt.created_by != access.user:
            raise Forbidden("Only whoever wrote a message edits it.")
        if locked.retry_of_id is not None:  # what was tried before keeps its words
            locked.prompt = conversations.post_message(access, locked.thread, content)
            locked.save(update_fields=["prompt"])
        else:
            locked.prompt.content = content
            locked.prompt.save(update_fields=["content", "updated_at"])
    return locked


def fork_thread(access: Access, run: Run) -> Thread:
    """A new conversation that begins with what was said up to and in `run`, and has its files."""
    access.require("data.threads.write", run)
    before = Run.objects.filter(thread=run.thread_id, position__lte=run.position)
    # Each once, a question that was asked again too; an answer stands behind what it answers.
    placed: dict[int, tuple[float, Message]] = {
        message.pk: (message.pk, message)
        for message in Message.objects.filter(
            thread=run.thread_id,
            runs=None,
            answered_by=None,
            pk__lt=run.prompt_id or run.answer_id or 0,
        )
    }
    for one in before.select_related("prompt", "answer").order_by("position"):
        if one.prompt is not None:
            placed[one.prompt.pk] = (one.prompt.pk, one.prompt)
        if one.answer is not None:
            placed[one.answer.pk] = ((one.prompt_id or one.answer.pk) + 0.5, one.answer)
    said = [message for _, message in sorted(placed.values(), key=lambda pair: pair[0])]
    return conversations.fork_thread(access, run.thread, said)
