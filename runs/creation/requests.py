"""Runs of teammates and tasks, as v2 asks for them: new, again, in reply."""

from collections.abc import Sequence
from dataclasses import replace

from django.db import transaction

from runs.creation.attachments import Attachment, attach, write_attachments
from runs.creation.enqueue import RunRequest, enqueue, start_in_new_thread
from runs.creation.options import Options, check_options, options_of_run
from runs.creation.origins import narrowed
from runs.models import (
    RETRYABLE,
    Channel,
    HistoryOf,
    Run,
    Task,
)
from teammates.access import Access
from teammates.errors import Conflict, NotFound, Unsuitable
from teammates.models import EndUser, PermissionMode, Teammate
from teammates.people import end_users
from teammates.roster import editing, lookup
from teammates.trust import limits
from teammates.types import JSON
from threads import conversations
from threads.models import Thread


def create_run(
    access: Access,
    *,
    message: str,
    options: Options,
    teammate_id: int | None = None,
    name: str | None = None,
    instructions: str | None = None,
    user_id: str | None = None,
    email_inbox: bool = False,
    attachments: Sequence[Attachment] = (),
) -> Run:
    """v2: a run in a thread of its own, for the named, found, made or default teammate.

    Raises `Invalid`, `NotFound` (teammate or end-user scope).
    """
    access.require("data.runs.write")
    content = conversations.checked_message(message)
    options = check_options(access.for_end_user(user_id), options)
    count_uploads(access, attachments)
    with transaction.atomic():
        end_user = _end_user(access, user_id)
        teammate = _teammate_for(
            access, teammate_id, name, instructions, end_user, options, email_inbox=email_inbox
        )
        if teammate.end_user_id is not None:
            if end_user is not None and end_user.pk != teammate.end_user_id:
                raise NotFound("There is no such teammate.", code="teammates.not_found")
            end_user = teammate.end_user
        replace(access, end_user=end_user).require_end_user()
        run = start_in_new_thread(
            access,
            content,
            teammate,
            options,
            end_user=end_user,
            history_of=HistoryOf.TEAMMATE,
        )
        write_and_attach(run, attachments)
        return run


def run_task(
    access: Access,
    task: Task,
    *,
    options: Options,
    user_id: str | None = None,
    channel: Channel = Channel.API,
    extra: str = "",
) -> Run:
    """A run of a saved task, in a thread of its own and in the task's scope if it has one; `extra`
    is said behind its instructions.

    Raises `Unsuitable` for a paused or archived task, `NotFound` for another end user's.
    """
    access.require("data.runs.write", task)
    options = check_options(access.for_end_user(user_id), options)
    if not task.is_enabled:
        raise Unsuitable(
            f"The task {task.name} is {task.get_status_display().lower()}; enable it first.",
            code="task_disabled",
        )
    with transaction.atomic():
        end_user = _end_user(access, user_id)
        if task.end_user_id is not None:
            if end_user is not None and end_user.pk != task.end_user_id:
                raise NotFound("There is no such task.", code="tasks.not_found")
            end_user = task.end_user
        replace(access, end_user=end_user).require_end_user()
        teammate = usable_teammate(access, task.teammate_id)
        return start_in_new_thread(
            access,
            prompt_of(task, extra),
            teammate,
            options,
            end_user=end_user,
            title=title_of(task.name),
            channel=channel,
            history_of=HistoryOf.TEAMMATE,
            task=task,
        )


def prompt_of(task: Task, extra: str = "") -> str:
    """What a run of the task is asked to do."""
    parts = [task.instructions]
    if task.expected_output:
        parts.append(f"Expected output: {task.expected_output}")
    if task.goals:
        parts.append(f"Goals: {task.goals}")
    return "\n\n".join([*parts, extra] if extra else parts)


FIRST_SESSION = (
    "This is your first conversation here. Say in two or three sentences who you are and what you "
    "can do, then ask for the one thing that you need to know to begin."
)


def start_first_session(access: Access, teammate_id: int, *, options: Options) -> Run:
    """The teammate speaks first. Once: raises `Conflict` if it did, and has not failed."""
    access.require("data.runs.write")
    options = check_options(access, options)
    with transaction.atomic():
        teammate = lookup.get_teammate(access, teammate_id)
        replace(access, end_user=teammate.end_user).require_end_user()
        # The teammate's row is the lock: of two at once, the second sees the first.
        Teammate.objects.select_for_update(no_key=True).get(pk=teammate.pk)
        began = Run.objects.filter(teammate=teammate, is_first_session=True)
        if began.exclude(status__in=RETRYABLE).exists():
            raise Conflict(
                f"{teammate.name} had its first session already.", code="first_session_exists"
            )
        run = start_in_new_thread(
            access,
            FIRST_SESSION,
            teammate,
            options,
            end_user=teammate.end_user,
            title=f"Meet {title_of(teammate.name)}"[:150],
        )
        run.is_first_session = True
        run.save(update_fields=["is_first_session"])
        return run


def title_of(text: str) -> str:
    """As much of it as a thread's title holds."""
    return text.encode()[: conversations.LONGEST_TITLE].decode(errors="ignore")


def reply_to_run(
    access: Access,
    run: Run,
    *,
    message: str,
    options: Options,
    attachments: Sequence[Attachment] = (),
) -> Run:
    """v2: a new run in the same thread with the previous one's context and settings.

    Non-interactive, unless the body itself says otherwise. A busy thread queues it.
    """
    access.require("data.runs.write", run)
    content = conversations.checked_message(message)
    if options.tools == []:
        options = replace(options, tools=None)
    options = check_options(replace(access, end_user=run.end_user), options)
    count_uploads(access, attachments)
    asks_for_people = bool(options.human_in_the_loop) or options.permission_mode in (
        PermissionMode.APPROVAL,
        PermissionMode.PLAN,
    )
    wanted = replace(options.merged_with(options_of_run(run)), human_in_the_loop=asks_for_people)
    with transaction.atomic():
        thread = Thread.objects.get(pk=run.thread_id)
        teammate = usable_teammate(access, run.teammate_id)
        prompt = conversations.post_message(access, thread, content)
        request = RunRequest(
            thread, prompt, teammate, wanted, Channel.API, is_resolved=True, reply_to=run
        )
        again = enqueue(access, request)
        write_and_attach(again, attachments)
        return again


def _end_user(access: Access, user_id: str | None) -> EndUser | None:
    if user_id is None:
        return access.end_user
    return end_users.find_or_create(access, user_id)


def _teammate_for(
    access: Access,
    teammate_id: int | None,
    name: str | None,
    instructions: str | None,
    end_user: EndUser | None,
    options: Options,
    *,
    email_inbox: bool,
) -> Teammate:
    if teammate_id is not None:
        teammate = lookup.get_teammate(replace(access, end_user=None), teammate_id)
        if teammate.is_archived:
            raise NotFound("This teammate is archived.", code="teammates.not_found")
        return teammate
    made_of: JSON = {
        "instructions": instructions or "",
        "model": options.model or "",
        "permission_mode": options.permission_mode or PermissionMode.AUTONOMOUS,
    }
    if name is not None:
        return editing.find_or_create_by_name(
            access, name=name, end_user=end_user, email_inbox=email_inbox, **made_of
        )
    if instructions is not None or email_inbox:
        known = (
            Teammate.objects.current()
            .with_version()
            .filter(
                organization=access.organization,
                end_user=end_user,
                created_by=access.user,
                version__instructions=instructions or "",
                name=editing.UNNAMED,
            )
        )
        if not email_inbox and (found := known.order_by("-id").first()):
            return found
        return editing.create_teammate(
            access,
            end_user=end_user,
            email_inbox=email_inbox,
            **made_of,
        )
    return lookup.default_teammate(access)


def count_uploads(access: Access, attachments: Sequence[Attachment]) -> None:
    """Raises `TooMany`."""
    if attachments:
        limits.take(
            (limits.UPLOADS, limits.whoever(access)),
            (limits.UPLOADS_OF_ALL, access.organization.pk),
        )


def write_and_attach(run: Run, attachments: Sequence[Attachment]) -> None:
    """Put files beside the run's message."""
    if not attachments:
        return
    attach(run, write_attachments(Thread.objects.get(pk=run.thread_id), attachments))


def usable_teammate(access: Access, teammate_id: int) -> Teammate:
    """A teammate that the asker may still have work for them. Raises `NotFound` once it is
    somebody else's alone."""
    return lookup.get_teammate(replace(narrowed(access, ""), end_user=None), teammate_id)
