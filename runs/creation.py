"""Runs are made here: resolved, checked, queued; at most one for an `Idempotency-Key`."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import Max, Q, QuerySet
from django.utils import timezone

from runs.lifecycle import endings, queueing
from runs.models import (
    ACTIVE,
    FINISHED,
    RETRYABLE,
    CallStatus,
    Channel,
    HistoryOf,
    IdempotencyKey,
    Run,
    RunFile,
    RunStatus,
    Task,
    TaskStatus,
    ToolCall,
)
from runs.usage import limits as usage_limits
from teammates import budget, connections, end_users, knowledge, limits, roster, servers
from teammates.access import Access
from teammates.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    PaymentRequired,
    Unavailable,
    Unsuitable,
)
from teammates.models import (
    Effort,
    EndUser,
    Model,
    PermissionMode,
    Teammate,
    TeammateStatus,
    TeammateVersion,
)
from teammates.tools import schemas
from threads import conversations, files
from threads.models import File, Message, MessageRole, Thread

KEY_LIFE = timedelta(hours=24)
MOST_TURNS = 2000
MOST_ATTACHMENTS = 20  # of a message
CLAIM_SECONDS = 20  # that a second request with a key waits for the first


@dataclass(frozen=True)
class Options:
    """What a request may override; None inherits (run > task > teammate > platform)."""

    model: str | None = None
    effort: str | None = None
    permission_mode: str | None = None
    human_in_the_loop: bool | None = None
    tools: list[str] | None = None
    memory: bool | None = None
    history: bool | None = None
    task_setup_tools: bool | None = None
    feedback: bool | None = None
    metadata: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    max_turns: int | None = None
    skill: str | None = None
    email_notifications: bool | None = None

    def or_else(self, inherited: "Options") -> "Options":
        mine = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(inherited, **mine)


def of_run(run: Run) -> Options:
    """Everything that an earlier run was resolved to."""
    return Options(
        model=run.route.alias if run.route else None,
        effort=run.effort or None,
        permission_mode=run.permission_mode,
        human_in_the_loop=run.human_in_the_loop,
        tools=run.tools,
        memory=run.memory,
        history=run.history,
        task_setup_tools=run.task_setup_tools,
        feedback=run.feedback,
        metadata=run.metadata,
        output_schema=run.output_schema,
        max_turns=run.max_turns,
        skill=run.skill or None,
        email_notifications=run.email_notifications,
    )


def of_version(version: TeammateVersion) -> Options:
    return replace(_of(version), tools=version.tools)


def of_task(task: Task) -> Options:
    return replace(_of(task), tools=task.tools)


def _of(source: TeammateVersion | Task) -> Options:
    """What a teammate or a task says; what it leaves open is None."""
    return Options(
        model=source.model or None,
        effort=source.effort or None,
        permission_mode=source.permission_mode or None,
        memory=source.memory,
        history=source.history,
        task_setup_tools=source.task_setup_tools,
        feedback=source.feedback,
    )


# --- the ways to ask for a run ------------------------------------------------------------------


@dataclass(frozen=True)
class Attachment:
    """A file that comes with a message."""

    name: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


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
    check_options(access.for_end_user(user_id), options)
    _count_uploads(access, attachments)
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
        thread = conversations.create_thread(access, teammate=teammate, end_user=end_user)
        prompt = conversations.post_message(access, thread, content)
        run = queue(
            access, thread, prompt, teammate, teammate.current_version, options,
            channel=Channel.API, history_of=HistoryOf.TEAMMATE,
        )  # fmt: skip
        _attach(run, attachments)
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
    check_options(access.for_end_user(user_id), options)
    if task.status != TaskStatus.ENABLED:
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
        teammate = _usable(access, task.teammate_id)
        thread = conversations.create_thread(
            access, title=title_of(task.name), teammate=teammate, end_user=end_user
        )
        prompt = conversations.post_message(access, thread, prompt_of(task, extra))
        return queue(
            access, thread, prompt, teammate, teammate.current_version, options,
            channel=channel, history_of=HistoryOf.TEAMMATE, task=task,
        )  # fmt: skip


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
    check_options(access, options)
    with transaction.atomic():
        teammate = roster.get_teammate(access, teammate_id)
        replace(access, end_user=teammate.end_user).require_end_user()
        # The teammate's row is the lock: of two at once, the second sees the first.
        Teammate.objects.select_for_update(no_key=True).get(pk=teammate.pk)
        began = Run.objects.filter(teammate=teammate, is_first_session=True)
        if began.exclude(status__in=RETRYABLE).exists():
            raise Conflict(
                f"{teammate.name} had its first session already.", code="first_session_exists"
            )
        thread = conversations.create_thread(
            access, title=f"Meet {title_of(teammate.name)}"[:150], teammate=teammate,
            end_user=teammate.end_user,
        )  # fmt: skip
        prompt = conversations.post_message(access, thread, FIRST_SESSION)
        run = queue(
            access, thread, prompt, teammate, teammate.current_version, options,
            channel=Channel.API,
        )  # fmt: skip
        run.is_first_session = True
        run.save(update_fields=["is_first_session"])
        return run


def retry_run(
    access: Access, run: Run, *, confirm: bool = False, channel: Channel = Channel.API
) -> tuple[Run, bool]:
    """A new run of the same request with the same settings, and whether it is new: one that is
    under way is returned instead.

    Raises `Conflict` if the run did not fail, or if it did things that would be done again and
    `confirm` does not say so.
    """
    access.require("data.runs.write", run)
    with transaction.atomic():
        # The run's row is the lock: of two retries at once, the second finds the first.
        Run.objects.select_for_update(no_key=True).get(pk=run.pk)
        run.refresh_from_db(fields=["status", "erased_at"])
        if (under_way := run.retries.filter(status__in=ACTIVE).order_by("-id").first()) is not None:
            return under_way, False
        if not run.is_retryable:
            raise Conflict(
                "Only a failed or cancelled run whose words are kept can be tried again.",
                code="run_not_retryable",
            )
        if not confirm and repeats_actions(run):
            raise Conflict(
                "The run did things that a retry may do again. Confirm to go on.",
                code="retry_needs_confirmation",
            )
        thread = Thread.objects.get(pk=run.thread_id)
        teammate = _usable(access, run.teammate_id)
        again = queue(
            access, thread, run.prompt, teammate, teammate.current_version, of_run(run),
            channel=channel, history_of=HistoryOf(run.history_of), reply_to=run.reply_to,
            is_resolved=True, task=run.task, retry_of=run,
        )  # fmt: skip
        for attached in RunFile.objects.filter(run=run, is_attachment=True):
            RunFile.objects.create(run=again, file_id=attached.file_id, is_attachment=True)
        return again, True


def repeats_actions(run: Run) -> bool:
    """Whether the run did, or may have done, something that trying again would do again."""
    return actions_of(run).exists()


def actions_of(run: Run) -> QuerySet[ToolCall]:
    """What the run did, or may have done, that changes something."""
    done = run.tool_calls.exclude(is_action=False)
    return done.filter(
        status__in=[CallStatus.DONE, CallStatus.UNKNOWN, CallStatus.RUNNING]
    ).order_by("pk")  # fmt: skip


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
    check_options(replace(access, end_user=run.end_user), options)
    _count_uploads(access, attachments)
    asks_for_people = bool(options.human_in_the_loop) or options.permission_mode in (
        PermissionMode.APPROVAL,
        PermissionMode.PLAN,
    )
    wanted = replace(options.or_else(of_run(run)), human_in_the_loop=asks_for_people)
    with transaction.atomic():
        thread = Thread.objects.get(pk=run.thread_id)
        teammate = _usable(access, run.teammate_id)
        prompt = conversations.post_message(access, thread, content)
        again = queue(
            access, thread, prompt, teammate, teammate.current_version, wanted,
            channel=Channel.API, reply_to=run, is_resolved=True,
        )  # fmt: skip
        _attach(again, attachments)
        return again


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
            access, thread, message=message, teammate=teammate, options=options,
            channel=Channel.APP, attachments=attachments,
        )  # fmt: skip


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
    options = options or Options()
    check_options(access, options)
    _count_uploads(access, attachments)
    with transaction.atomic():
        if persona_id is not None:
            teammate, version = roster.get_persona(access, persona_id)
        else:
            teammate = teammate or _usual(access, thread) or roster.default_teammate(access)
            version = teammate.current_version
        route = connections.get_route(access.organization, route_id) if route_id else None
        if message is not None:
            prompt: Message | None = conversations.post_message(access, thread, message)
        else:
            # Held: of two runs at once, the second finds the message taken up.
            Thread.objects.select_for_update(no_key=True).get(pk=thread.pk)
            prompt = _unanswered(thread)
        run = queue(
            access, thread, prompt, teammate, version,
            # Somebody is there to ask: the mode says what needs asking.
            replace(options, human_in_the_loop=options.human_in_the_loop is not False),
            channel=channel, persona_id=persona_id or "", route=route,
        )  # fmt: skip
        _attach(run, attachments)
        return run


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
        locked = (
            Run.objects.select_for_update(of=("self",), no_key=True).with_names().get(pk=run.pk)
        )
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
    said: list[Message] = list(
        Message.objects.filter(thread=run.thread_id, runs=None, answered_by=None)
        .filter(pk__lt=run.prompt_id or run.answer_id or 0).order_by("pk")
    )  # fmt: skip
    for one in before.select_related("prompt", "answer").order_by("position"):
        said.extend(message for message in (one.prompt, one.answer) if message is not None)
    return conversations.fork_thread(access, run.thread, said)


# --- at most once -------------------------------------------------------------------------------


def once(
    access: Access, key: str | None, request: Any, make: Callable[[], Run]
) -> tuple[Run, bool]:
    """Make a run, or return the one that `key` made within a day, and whether it is a replay.

    `request` is what must be the same in both. Raises `Conflict` if it is not, `Unavailable` while
    the first is still at it.
    """
    if key is None:
        return make(), False
    if not 1 <= len(key) <= 255:
        raise Invalid("Idempotency-Key must have 1 to 255 characters.")
    text = json.dumps(request, sort_keys=True, default=str)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    with transaction.atomic():
        # Held to the end of the transaction: of two requests with one key the second waits.
        with connection.cursor() as cursor:
            lock = f"{access.organization.pk}:{key}"
            cursor.execute(f"SET LOCAL lock_timeout = '{CLAIM_SECONDS}s'")
            try:
                cursor.execute("SELECT pg_advisory_xact_lock(43, hashtext(%s))", [lock])
            except OperationalError:
                raise Unavailable(
                    "Another request with this Idempotency-Key is still being worked on; nothing "
                    "was started. Try again.",
                    code="idempotency_claim_failed",
                ) from None
            cursor.execute("SET LOCAL lock_timeout = 0")
        known = (
            IdempotencyKey.objects.filter(organization=access.organization, key=key)
            .select_related("run")
            .first()
        )
        if known is not None and known.claimed_at > timezone.now() - KEY_LIFE:
            is_theirs = Run.objects.visible_to(access).filter(pk=known.run_id).exists()
            if known.fingerprint != fingerprint or not is_theirs:
                raise Conflict(
                    "This Idempotency-Key was used for a different request.",
                    code="idempotency_key_reuse",
                )
            return known.run, True
        run = make()
        IdempotencyKey.objects.update_or_create(
            organization=access.organization,
            key=key,
            defaults={"fingerprint": fingerprint, "run": run, "claimed_at": timezone.now()},
        )
        return run, False


# --- checks and resolution ----------------------------------------------------------------------


def check_options(access: Access, options: Options) -> None:
    """Refuse what no run can have. Raises `Invalid` naming the field."""
    if options.permission_mode is not None and options.permission_mode not in PermissionMode.values:
        raise Invalid(f"permission_mode must be one of {', '.join(PermissionMode.values)}.")
    if options.human_in_the_loop is False and options.permission_mode in ("approval", "plan"):
        raise _must_ask(options.permission_mode)
    if options.effort and options.effort not in Effort.values:
        raise Invalid(f"effort must be one of {', '.join(Effort.values)}.")
    if options.model:
        connections.resolve_model(access.organization, options.model)
    servers.check_tools(access.organization, access.end_user, options.tools or [])
    if options.max_turns is not None and not 1 <= options.max_turns <= MOST_TURNS:
        raise Invalid(f"max_turns must be 1 to {MOST_TURNS}.")
    if options.output_schema is not None:
        _check_output_schema(options.output_schema)


def _must_ask(mode: str) -> Invalid:
    return Invalid(f"human_in_the_loop must not be false with permission_mode {mode}.")


def _check_output_schema(schema: dict[str, Any]) -> None:
    if schema.get("type") != "object":
        raise Invalid("output_schema must have type object at its root.")
    if any(f'"{word}"' in json.dumps(schema) for word in ("$ref", "$defs")):
        raise Invalid("output_schema must not use $ref or $defs.")
    try:
        wrong = budget.within(schemas.SECONDS, schemas.unusable, schema)
    except budget.TooCostly:
        wrong = "is too complicated"
    if wrong:
        raise Invalid(f"output_schema {wrong}.")


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
        teammate = roster.get_teammate(replace(access, end_user=None), teammate_id)
        if teammate.is_archived:
            raise NotFound("This teammate is archived.", code="teammates.not_found")
        return teammate
    made_of: dict[str, Any] = {
        "instructions": instructions or "",
        "model": options.model or "",
        "permission_mode": options.permission_mode or PermissionMode.AUTONOMOUS,
    }
    if name is not None:
        return roster.find_or_create_by_name(
            access, name=name, end_user=end_user, email_inbox=email_inbox, **made_of
        )
    if instructions is not None or email_inbox:
        known = Teammate.objects.current().with_version().filter(
            organization=access.organization, end_user=end_user, created_by=access.user,
            version__instructions=instructions or "", name=roster.UNNAMED,
        )  # fmt: skip
        if not email_inbox and (found := known.order_by("-id").first()):
            return found
        return roster.create_teammate(
            access, end_user=end_user, email_inbox=email_inbox,
            **made_of,
        )  # fmt: skip
    return roster.default_teammate(access)


def _count_uploads(access: Access, attachments: Sequence[Attachment]) -> None:
    """Raises `TooMany`."""
    if attachments:
        limits.take(
            (limits.UPLOADS, limits.whoever(access)),
            (limits.UPLOADS_OF_ALL, access.organization.pk),
        )


def _attach(run: Run, attachments: Sequence[Attachment]) -> None:
    """Put files beside the run's message."""
    attach(run, write_attachments(Thread.objects.get(pk=run.thread_id), attachments))


def write_attachments(thread: Thread, attachments: Sequence[Attachment]) -> list[File]:
    """Store files in a thread; one that would hide another gets a name of its own."""
    if len(attachments) > MOST_ATTACHMENTS:
        raise Invalid(f"files: at most {MOST_ATTACHMENTS} come with a message.")
    written = []
    for one in attachments:
        name = files.free_name(thread, one.name, one.sha256)
        written.append(files.write_file(thread, name=name, content=one.content))
    return written


def attach(run: Run, written: Sequence[File]) -> None:
    for file in written:
        RunFile.objects.get_or_create(run=run, file=file, defaults={"is_attachment": True})


def _usable(access: Access, teammate_id: int) -> Teammate:
    """A teammate that the asker may still have work for them. Raises `NotFound` once it is
    somebody else's alone."""
    return roster.get_teammate(replace(access, end_user=None, origin=""), teammate_id)


def _usual(access: Access, thread: Thread) -> Teammate | None:
    """Who answers in a thread, unless they are archived or the asker's no more."""
    mine = Teammate.objects.visible_to(replace(access, end_user=None)).current().with_version()
    return mine.filter(pk=thread.teammate_id or 0).first()


def _unanswered(thread: Thread) -> Message | None:
    """The last message that no run answers yet; those before it are in the run's history, and are
    answered with it. The caller holds the thread's row.

    Which messages had a run decides, not who spoke last: while a run works, people go on writing.
    One that ended without a word answered nothing.
    """
    in_vain = Q(status__in=FINISHED, answer=None) & ~Q(status=RunStatus.COMPLETED)
    taken_up = Run.objects.filter(thread=thread).exclude(in_vain)
    said = Message.objects.filter(thread=thread)
    copied = said.filter(role=MessageRole.ASSISTANT, answered_by=None)  # what a fork begins with
    seen = max(
        taken_up.aggregate(last=Max("prompt"))["last"] or 0,
        copied.aggregate(last=Max("pk"))["last"] or 0,
    )
    return said.filter(role=MessageRole.USER, pk__gt=seen).order_by("-pk").first()


def queue(
    access: Access,
    thread: Thread,
    prompt: Message | None,
    teammate: Teammate,
    version: TeammateVersion,
    options: Options,
    *,
    channel: Channel,
    history_of: HistoryOf = HistoryOf.THREAD,
    reply_to: Run | None = None,
    persona_id: str = "",
    route: Model | None = None,
    is_resolved: bool = False,
    task: Task | None = None,
    started_by: Run | None = None,
    retry_of: Run | None = None,
) -> Run:
    """Resolve every option and put the run into its thread's queue."""
    if teammate.is_archived:
        raise NotFound("This teammate is archived.", code="teammates.not_found")
    if teammate.end_user_id is not None and teammate.end_user_id != thread.end_user_id:
        raise NotFound("There is no such teammate.", code="teammates.not_found")
    if thread.end_user is not None and not access.origin:
        # The run is told what is known of the end user: that is for who may see it.
        replace(access, end_user=thread.end_user).require_scope()
    if teammate.status == TeammateStatus.DISABLED:
        raise Conflict(
            f"{teammate.name} is paused; enable the teammate first.", code="teammates.disabled"
        )
    # The thread first, then its end user: everybody who starts a run takes them in this order.
    locked = Thread.objects.select_for_update(no_key=True).get(pk=thread.pk)
    starts_left = usage_limits.check_limits(thread.end_user) if thread.end_user else None
    _check_verified(access)
    inherited = of_task(task).or_else(of_version(version)) if task else of_version(version)
    wanted = options if is_resolved else options.or_else(inherited)
    mode = wanted.permission_mode or PermissionMode.AUTONOMOUS
    if not is_resolved and options.human_in_the_loop is False and mode != PermissionMode.AUTONOMOUS:
        raise _must_ask(mode)
    people = wanted.human_in_the_loop
    text = prompt.content if prompt else ""
    if wanted.skill:
        scope = replace(access, end_user=thread.end_user)
        knowledge.check_skill(scope, teammate, wanted.skill)
    task = task or Task.objects.create(
        organization=access.organization,
        teammate=teammate,
        end_user=thread.end_user,
        created_by=access.user,
        name=" ".join(text.split())[:100] or f"Run of {teammate.name}"[:255],
        instructions=text,
        is_ad_hoc=True,
    )
    origin = access.origin or (retry_of.origin if retry_of else "")
    begun_by = (one for one in (started_by, retry_of) if one is not None)
    heard_outside = (
        bool(origin) or locked.heard_outside or any(one.has_words_from_outside for one in begun_by)
    )
    run = Run(
        organization=access.organization,
        thread=thread,
        task=task,
        teammate=teammate,
        teammate_version=version,
        end_user=thread.end_user,
        prompt=prompt,
        reply_to=reply_to,
        retry_of=retry_of,
        started_by=started_by,
        root_id=(started_by.root_id or started_by.pk) if started_by else None,
        depth=started_by.depth + 1 if started_by else 0,
        channel=channel,
        created_by=access.user,
        api_key=access.api_key,
        origin=origin,
        heard_outside=heard_outside,
        route=route or connections.resolve_model(access.organization, wanted.model or ""),
        requested_persona=persona_id,
        effort=wanted.effort or "",
        permission_mode=mode,
        human_in_the_loop=mode != PermissionMode.AUTONOMOUS if people is None else people,
        tools=wanted.tools or [],
        memory=wanted.memory is not False,
        history=wanted.history is not False,
        history_of=history_of,
        task_setup_tools=wanted.task_setup_tools is not False,
        feedback=wanted.feedback is not False,
        email_notifications=bool(wanted.email_notifications),
        max_turns=wanted.max_turns or MOST_TURNS,
        skill=wanted.skill or "",
        output_schema=wanted.output_schema,
        metadata=wanted.metadata,
    )
    if thread.teammate_id is None:
        Thread.objects.filter(pk=thread.pk).update(teammate=teammate)
    if heard_outside:
        conversations.mark_heard_outside(thread)
    Run.objects.filter(thread=thread, asks_back=True).update(asks_back=False)
    run = queueing.queue_run(run)
    run.starts_left = starts_left
    return run


def _check_verified(access: Access) -> None:
    """Where the operator wants addresses to be confirmed: a few runs are free of that."""
    free, user = settings.UNVERIFIED_RUNS, access.user
    if free is None or user is None or user.email_verified_at is not None:
        return
    if Run.objects.filter(created_by=user, status=RunStatus.COMPLETED)[free:].exists():
        raise PaymentRequired(
            f"Confirm your e-mail address to start more than {free} runs.",
            code="EMAIL_VERIFICATION_REQUIRED",
        )
