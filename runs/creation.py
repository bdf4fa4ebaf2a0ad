"""Runs are made here: resolved, checked, queued; at most one for an `Idempotency-Key`."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from runs import lifecycle
from runs.models import Channel, HistoryOf, IdempotencyKey, Run, Task
from teammates import accounts, connections, knowledge, roster, servers
from teammates.access import Access, check_end_user_id
from teammates.errors import Conflict, Invalid, NotFound
from teammates.models import (
    Effort,
    EndUser,
    Model,
    PermissionMode,
    Teammate,
    TeammateStatus,
    TeammateVersion,
)
from threads import conversations
from threads.models import Message, MessageRole, Thread

KEY_LIFE = timedelta(hours=24)
MOST_TURNS = 2000


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


# --- the three ways to ask for a run ------------------------------------------------------------


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
) -> Run:
    """v2: a run in a thread of its own, for the named, found, made or default teammate.

    Raises `Invalid`, `NotFound` (teammate or end-user scope).
    """
    access.require("data.runs.write")
    content = conversations.checked_message(message)
    check_options(access.for_end_user(user_id), options)
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
        return queue(
            access, thread, prompt, teammate, teammate.current_version, options,
            channel=Channel.API, history_of=HistoryOf.TEAMMATE,
        )  # fmt: skip


def reply_to_run(access: Access, run: Run, *, message: str, options: Options) -> Run:
    """v2: a new run in the same thread with the previous one's context and settings.

    Non-interactive, unless the body itself says otherwise. A busy thread queues it.
    """
    access.require("data.runs.write")
    content = conversations.checked_message(message)
    if options.tools == []:
        options = replace(options, tools=None)
    check_options(replace(access, end_user=run.end_user), options)
    inherited = Options(
        model=run.route.alias if run.route else None,
        effort=run.effort or None,
        permission_mode=run.permission_mode,
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
    asks_for_people = bool(options.human_in_the_loop) or options.permission_mode in (
        PermissionMode.APPROVAL,
        PermissionMode.PLAN,
    )
    wanted = options.or_else(inherited)
    wanted = replace(wanted, human_in_the_loop=asks_for_people)
    with transaction.atomic():
        thread = Thread.objects.get(pk=run.thread_id)
        prompt = conversations.post_message(access, thread, content)
        return queue(
            access, thread, prompt, run.teammate, run.teammate.current_version, wanted,
            channel=Channel.API, reply_to=run, is_resolved=True,
        )  # fmt: skip


def start_thread(
    access: Access, *, message: str, teammate: Teammate | None, options: Options | None = None
) -> Run:
    """The pages: a conversation with its first message and run, all or nothing."""
    with transaction.atomic():
        thread = conversations.create_thread(access, teammate=teammate)
        return run_in_thread(
            access, thread, message=message, teammate=teammate, options=options,
            channel=Channel.APP,
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
) -> Run:
    """v1 and the pages: a run on the thread as it stands, or with a new message.

    Raises `Invalid`, `NotFound` (persona, route).
    """
    access.require("data.runs.write")
    options = options or Options()
    check_options(access, options)
    with transaction.atomic():
        if persona_id is not None:
            teammate, version = roster.get_persona(access.organization, persona_id)
        else:
            teammate = (
                teammate
                or _current(thread.teammate)
                or roster.default_teammate(access.organization)
            )
            version = teammate.current_version
        route = connections.get_route(access.organization, route_id) if route_id else None
        if message is not None:
            prompt: Message | None = conversations.post_message(access, thread, message)
        else:
            prompt = _unanswered(thread)
        return queue(
            access, thread, prompt, teammate, version,
            # Somebody is there to ask: the mode says what needs asking.
            replace(options, human_in_the_loop=options.human_in_the_loop is not False),
            channel=channel, persona_id=persona_id or "", route=route,
        )  # fmt: skip


# --- at most once -------------------------------------------------------------------------------


def once(
    access: Access, key: str | None, request: Any, make: Callable[[], Run]
) -> tuple[Run, bool]:
    """Make a run, or return the one that `key` made within a day, and whether it is a replay.

    `request` is what must be the same in both. Raises `Conflict` if it is not.
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
            cursor.execute("SELECT pg_advisory_xact_lock(43, hashtext(%s))", [lock])
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
    import jsonschema

    if schema.get("type") != "object":
        raise Invalid("output_schema must have type object at its root.")
    if any(f'"{word}"' in json.dumps(schema) for word in ("$ref", "$defs")):
        raise Invalid("output_schema must not use $ref or $defs.")
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise Invalid(f"output_schema is not a JSON schema: {error.message[:200]}.") from None


def _end_user(access: Access, user_id: str | None) -> EndUser | None:
    if user_id is None:
        return access.end_user
    check_end_user_id(user_id)
    return accounts.find_or_create_end_user(access.organization, user_id)


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
            access.organization, name=name, by=access.user, end_user=end_user,
            email_inbox=email_inbox, **made_of,
        )  # fmt: skip
    if instructions is not None or email_inbox:
        known = Teammate.objects.current().with_version().filter(
            organization=access.organization, end_user=end_user, created_by=access.user,
            version__instructions=instructions or "", name=roster.UNNAMED,
        )  # fmt: skip
        if not email_inbox and (found := known.order_by("-id").first()):
            return found
        return roster.create_teammate(
            access.organization, by=access.user, end_user=end_user, email_inbox=email_inbox,
            **made_of,
        )  # fmt: skip
    return roster.default_teammate(access.organization)


def _current(teammate: Teammate | None) -> Teammate | None:
    return None if teammate is None or teammate.is_archived else teammate


def _unanswered(thread: Thread) -> Message | None:
    """The thread's last message, if a person said it."""
    last = Message.objects.filter(thread=thread).order_by("-id").first()
    return last if last is not None and last.role == MessageRole.USER else None


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
) -> Run:
    """Resolve every option and put the run into its thread's queue."""
    if teammate.is_archived:
        raise NotFound("This teammate is archived.", code="teammates.not_found")
    if teammate.end_user_id is not None and teammate.end_user_id != thread.end_user_id:
        raise NotFound("There is no such teammate.", code="teammates.not_found")
    if teammate.status == TeammateStatus.DISABLED:
        raise Conflict(
            f"{teammate.name} is paused; enable the teammate first.", code="teammates.disabled"
        )
    inherited = of_task(task).or_else(of_version(version)) if task else of_version(version)
    wanted = options if is_resolved else options.or_else(inherited)
    mode = wanted.permission_mode or PermissionMode.AUTONOMOUS
    if not is_resolved and options.human_in_the_loop is False and mode != PermissionMode.AUTONOMOUS:
        raise _must_ask(mode)
    people = wanted.human_in_the_loop
    text = prompt.content if prompt else ""
    if wanted.skill:
        knowledge.check_skill(access.organization, thread.end_user, teammate, wanted.skill)
    task = task or Task.objects.create(
        organization=access.organization,
        teammate=teammate,
        end_user=thread.end_user,
        created_by=access.user,
        name=" ".join(text.split())[:100] or f"Run of {teammate.name}"[:255],
        instructions=text,
        is_ad_hoc=True,
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
        started_by=started_by,
        root_id=(started_by.root_id or started_by.pk) if started_by else None,
        depth=started_by.depth + 1 if started_by else 0,
        channel=channel,
        created_by=access.user,
        api_key=access.api_key,
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
    return lifecycle.queue_run(run)
