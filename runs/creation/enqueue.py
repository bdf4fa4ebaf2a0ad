"""Every run is made here: resolved, checked, queued."""

from dataclasses import replace

from django.conf import settings

from runs.creation.options import MOST_TURNS, Options, must_ask, of_task, of_version
from runs.lifecycle import queueing
from runs.models import Channel, HistoryOf, Run, RunStatus, Task
from runs.usage import limits as usage_limits
from teammates.access import Access
from teammates.errors import Conflict, NotFound, PaymentRequired
from teammates.knowledge import skills
from teammates.llm import catalog
from teammates.models import Model, PermissionMode, Teammate, TeammateStatus, TeammateVersion
from threads import conversations
from threads.models import Message, Thread


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
        raise must_ask(mode)
    people = wanted.human_in_the_loop
    text = prompt.content if prompt else ""
    if wanted.skill:
        scope = replace(access, end_user=thread.end_user)
        skills.check_skill(scope, teammate, wanted.skill)
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
        route=route or catalog.resolve_model(access.organization, wanted.model or ""),
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
