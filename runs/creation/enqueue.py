"""Every run is made here: its options resolved, what keeps it from starting judged, queued."""

from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.db.models import Max, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Greatest

from config.compiled import Hole, compiled
from runs.creation.options import (
    MOST_TURNS,
    Options,
    must_ask,
    options_of_task,
    options_of_version,
)
from runs.lifecycle import queueing
from runs.models import FINISHED, Channel, HistoryOf, Run, RunStatus, Task
from runs.usage import limits as usage_limits
from teammates.access import Access
from teammates.errors import Conflict, NotFound, PaymentRequired
from teammates.knowledge import skills
from teammates.llm import catalog
from teammates.models import EndUser, PermissionMode, Teammate, TeammateStatus, TeammateVersion
from threads import conversations
from threads.models import Message, MessageRole, Thread


@dataclass(frozen=True)
class RunRequest:
    """What a run is asked to do, by whom, where and how."""

    thread: Thread
    prompt: Message | None
    teammate: Teammate
    options: Options  # checked (`check_options`)
    channel: Channel
    version: TeammateVersion | None = None  # None: the teammate's current one
    is_resolved: bool = False  # options are those of an earlier run: nothing is inherited
    is_new_thread: bool = False  # made in this transaction: nobody else knows it yet
    takes_unanswered: bool = False  # its prompt is what the thread has that no run answers yet
    task: Task | None = None  # None: one of its own is made
    history_of: HistoryOf = HistoryOf.THREAD
    persona_id: str = ""
    reply_to: Run | None = None
    started_by: Run | None = None
    retry_of: Run | None = None

    @property
    def teammate_version(self) -> TeammateVersion:
        return self.version or self.teammate.current_version


def start_in_new_thread(
    access: Access,
    text: str,
    teammate: Teammate,
    options: Options,
    *,
    end_user: EndUser | None,
    title: str | None = None,
    channel: Channel = Channel.API,
    **request: Any,
) -> Run:
    """A thread of an end user's, or of the account, with `text` as its first message and a run;
    `request` is the rest of a `RunRequest`. Raises as `enqueue`."""
    thread, prompt = conversations.open_with(
        access, text, title=title, teammate=teammate, end_user=end_user
    )
    made = RunRequest(thread, prompt, teammate, options, channel, is_new_thread=True, **request)
    return enqueue(access, made)


def enqueue(access: Access, request: RunRequest) -> Run:
    """Put a run into its thread's queue. Call inside the transaction that makes what it needs.

    Holds the thread's row, then its end user's: everybody who starts a run takes them in this
    order. Raises as `resolve` and `may_start`, and `TooMany` if the queue is full.
    """
    if not request.is_new_thread:
        _hold(request.thread)
    if request.takes_unanswered:
        request = replace(request, prompt=_unanswered(request.thread))
    starts_left = may_start(access, request)
    run = _make(access, request, resolve(access, request))
    run = queueing.queue_run(run)
    run.starts_left = starts_left
    return run


def _hold(thread: Thread) -> None:
    """Lock the thread's row, and read what it says now."""
    held = _held.first(thread_id=thread.pk)
    assert held is not None
    thread.next_position, thread.heard_outside = held


def _unanswered(thread: Thread) -> Message | None:
    """The last message that no run answers yet. The caller holds the thread's row."""
    return _last_unanswered.first(thread_id=thread.pk)


@compiled
def _held(thread_id: Hole) -> "QuerySet[Thread, tuple[int, bool]]":
    threads = Thread.objects.select_for_update(no_key=True).filter(pk=thread_id)
    return threads.values_list("next_position", "heard_outside")


@compiled
def _last_unanswered(thread_id: Hole) -> "QuerySet[Message]":
    """The last message of a thread that no run answers yet: those before it are in the run's
    history, and are answered with it.

    Which messages had a run decides, not who spoke last: while a run works, people go on writing.
    One that ended without a word answered nothing.
    """
    runs = Run.objects.filter(thread=thread_id).order_by().values("thread")
    said = Message.objects.filter(thread=thread_id)
    in_vain = Q(status__in=FINISHED, answer=None) & ~Q(status=RunStatus.COMPLETED)
    taken_up = runs.exclude(in_vain).annotate(last=Max("prompt")).values("last")
    # What a fork begins with
    copied = said.filter(role=MessageRole.ASSISTANT, answered_by=None).order_by().values("thread")
    seen = Greatest(
        Coalesce(Subquery(taken_up), 0),
        Coalesce(Subquery(copied.annotate(last=Max("pk")).values("last")), 0),
    )
    return said.filter(role=MessageRole.USER, pk__gt=seen).order_by("-pk")[:1]


def may_start(access: Access, request: RunRequest) -> int | None:
    """How many runs the thread's end user may start after this one, None without a limit.

    Raises `NotFound`, `Conflict` (the teammate is paused), `Forbidden`, `TooMany`,
    `PaymentRequired`.
    """
    teammate, thread = request.teammate, request.thread
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
    starts_left = usage_limits.check_limits(thread.end_user) if thread.end_user else None
    _require_confirmed(access)
    return starts_left


def resolve(access: Access, request: RunRequest) -> Options:
    """The options with all that they take from the task and the teammate, and their model.

    Raises `Invalid` where nobody is to be asked although the mode wants it, or for a skill that
    the teammate has not.
    """
    wanted = request.options
    if not request.is_resolved:
        inherited = options_of_version(request.teammate_version)
        if request.task is not None:
            inherited = options_of_task(request.task).merged_with(inherited)
        wanted = wanted.merged_with(inherited)
    mode = wanted.permission_mode or PermissionMode.AUTONOMOUS
    must_not_ask = not request.is_resolved and request.options.human_in_the_loop is False
    if must_not_ask and mode != PermissionMode.AUTONOMOUS:
        raise must_ask(mode)
    if wanted.skill:
        scope = replace(access, end_user=request.thread.end_user)
        skills.check_skill(scope, request.teammate, wanted.skill)
    people = wanted.human_in_the_loop
    return replace(
        wanted,
        route=wanted.route or catalog.resolve_model(access.organization, wanted.model or ""),
        permission_mode=mode,
        human_in_the_loop=mode != PermissionMode.AUTONOMOUS if people is None else people,
    )


def _make(access: Access, request: RunRequest, options: Options) -> Run:
    """The run and its task, not saved yet."""
    thread, started_by = request.thread, request.started_by
    origin = access.origin or (request.retry_of.origin if request.retry_of else "")
    before = [run for run in (started_by, request.retry_of) if run is not None]
    return Run(
        organization=access.organization,
        thread=thread,
        task=request.task or _ad_hoc_task(access, request),
        teammate=request.teammate,
        teammate_version=request.teammate_version,
        end_user=thread.end_user,
        prompt=request.prompt,
        reply_to=request.reply_to,
        retry_of=request.retry_of,
        started_by=started_by,
        root_id=(started_by.root_id or started_by.pk) if started_by else None,
        depth=started_by.depth + 1 if started_by else 0,
        channel=request.channel,
        created_by=access.user,
        api_key=access.api_key,
        origin=origin,
        heard_outside=bool(origin)
        or thread.heard_outside
        or any(run.has_words_from_outside for run in before),
        route=options.route,
        requested_persona=request.persona_id,
        effort=options.effort or "",
        permission_mode=options.permission_mode or PermissionMode.AUTONOMOUS,
        human_in_the_loop=bool(options.human_in_the_loop),
        tools=options.tools or [],
        memory=options.memory is not False,
        history=options.history is not False,
        history_of=request.history_of,
        task_setup_tools=options.task_setup_tools is not False,
        feedback=options.feedback is not False,
        email_notifications=bool(options.email_notifications),
        max_turns=options.max_turns or MOST_TURNS,
        skill=options.skill or "",
        output_schema=options.output_schema,
        metadata=options.metadata,
    )


def _ad_hoc_task(access: Access, request: RunRequest) -> Task:
    text = request.prompt.content if request.prompt else ""
    return Task(
        organization=access.organization,
        teammate=request.teammate,
        end_user=request.thread.end_user,
        created_by=access.user,
        name=" ".join(text.split())[:100] or f"Run of {request.teammate.name}"[:255],
        instructions=text,
        is_ad_hoc=True,
    )


def _require_confirmed(access: Access) -> None:
    """Where the operator wants addresses to be confirmed: a few runs are free of that."""
    free, user = settings.UNVERIFIED_RUNS, access.user
    if free is None or user is None or user.email_verified_at is not None:
        return
    if Run.objects.filter(created_by=user, status=RunStatus.COMPLETED)[free:].exists():
        raise PaymentRequired(
            f"Confirm your e-mail address to start more than {free} runs.",
            code="EMAIL_VERIFICATION_REQUIRED",
        )
