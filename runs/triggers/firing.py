"""Something happens that is to start a run: a time comes, a call, a mail. Each is written down
once, with the run that came of it or why none did.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from django.conf import settings
from django.db import OperationalError, transaction
from django.db.models import F
from django.utils import timezone

from runs.creation import enqueue, requests
from runs.creation.attachments import attach, write_attachments
from runs.creation.options import Options
from runs.creation.origins import narrowed
from runs.models import (
    Firing,
    FiringStatus,
    HistoryOf,
    Overlap,
    Run,
    RunStatus,
    SkipReason,
    Task,
    TriggerKind,
)
from runs.triggers.history import active_runs, came_often
from runs.triggers.targets import CHANNELS, TriggerEvent, TriggerTarget
from teammates.access import Access, access_of_owner
from teammates.errors import DomainError, Forbidden
from teammates.fields import bounded_key
from teammates.models import User
from teammates.people.members import find_member
from teammates.text import clean_text
from threads import conversations
from threads.models import File, Message

logger = logging.getLogger("muster.firing")
M = TypeVar("M")
KEPT = 16 * 1024  # characters of what was received
LONGEST_DETAIL = 500
MINUTE = timedelta(minutes=1)
REFUSALS_PER_MINUTE = 20  # that are written down one by one


# --- one firing ---------------------------------------------------------------------------------
def fire(target: TriggerTarget, event: TriggerEvent, *, in_line: bool = False) -> Firing:
    """Start a run, let it wait for the one before it, or leave it out, as the trigger's rules say.

    `in_line`: it may wait behind others that wait. The caller holds the row of the trigger, or of
    the teammate.
    """
    trigger = target.trigger
    if trigger is not None and trigger.overlap != Overlap.ALLOW:
        waiting = target.firings.filter(status=FiringStatus.WAITING)
        assert target.task is not None
        if waiting.exists() or active_runs(target.task).exists():
            if trigger.overlap == Overlap.CANCEL:
                waiting.update(status=FiringStatus.SKIPPED, reason=SkipReason.REPLACED)
                return _let_wait(target, event)
            if in_line or (trigger.overlap == Overlap.QUEUE and not waiting.exists()):
                return _let_wait(target, event)
            return skip(target, event, SkipReason.OVERLAP, _who_works(target.task))
    return _start(target, event)


def refusal(target: TriggerTarget, kind: TriggerKind, *, is_active: bool) -> SkipReason | None:
    """Why a call or a mail is not taken now, whatever it says."""
    if not is_active or target.organization.closed_at is not None:
        return SkipReason.PAUSED
    taken = target.firings.filter(kind=kind).exclude(status=FiringStatus.SKIPPED)
    return SkipReason.RATE if came_often(taken, settings.CALLS_PER_MINUTE, MINUTE) else None


def skip(
    target: TriggerTarget, event: TriggerEvent, reason: SkipReason, detail: str = "", n: int = 1
) -> Firing:
    """Write down that nothing was started; the same reason again only counts up."""
    detail = clean_text(detail)[:LONGEST_DETAIL]
    known = _known_refusal(target, event, reason, detail)
    if known is None:
        return _record(target, event, FiringStatus.SKIPPED, reason=reason, detail=detail, times=n)
    known.times, known.last_at = F("times") + n, event.due_at or timezone.now()
    known.save(update_fields=["times", "last_at"])
    known.refresh_from_db(fields=["times"])
    known.detail = detail  # of this one, for whoever is answered; the entry keeps its own
    return known


def _known_refusal(
    target: TriggerTarget, event: TriggerEvent, reason: SkipReason, detail: str
) -> Firing | None:
    """The entry that a refusal only counts up: the last one, if it says the same; and in a flood
    from outside, whatever differs in it, the last of its reason."""
    newest = target.firings.order_by("-id")
    last = newest.first()
    if last is not None and (last.reason, last.detail, last.source) == (
        reason,
        detail,
        event.source,
    ):
        return last
    lately = newest.filter(kind=event.kind, status=FiringStatus.SKIPPED, reason=reason)
    if event.kind != TriggerKind.SCHEDULE and came_often(lately, REFUSALS_PER_MINUTE, MINUTE):
        return lately.first()
    return None


def _start(target: TriggerTarget, event: TriggerEvent) -> Firing:
    made = _attempt(
        lambda: _run(
            target, event.kind, event.source, *_post(target, event), is_new=event.thread is None
        )
    )
    if isinstance(made, Exception):
        return _refuse(target, event, made)
    return _record(target, event, FiringStatus.STARTED, run=made)


def _let_wait(target: TriggerTarget, event: TriggerEvent) -> Firing:
    made = _attempt(lambda: _post(target, event))
    if isinstance(made, Exception):
        return _refuse(target, event, made)
    prompt, written = made
    enclosed = [file.pk for file in written]
    return _record(target, event, FiringStatus.WAITING, prompt=prompt, enclosed=enclosed)


def _refuse(target: TriggerTarget, event: TriggerEvent, error: Exception) -> Firing:
    left = skip(target, event, SkipReason.REFUSED, _words_for(error))
    left.error = error
    return left


def start_waiting(firing: Firing, target: TriggerTarget) -> Firing:
    """Start what waited; what it asks was posted when it came. The caller holds the trigger."""
    prompt = firing.prompt
    if prompt is None:
        return _close(
            firing, FiringStatus.SKIPPED, reason=SkipReason.REFUSED, detail="It was deleted."
        )
    files = list(File.objects.filter(thread=prompt.thread_id, pk__in=firing.enclosed))
    is_new = not Run.objects.filter(thread=prompt.thread_id).exists()
    kind = TriggerKind(firing.kind)
    made = _attempt(lambda: _run(target, kind, firing.source, prompt, files, is_new=is_new))
    if isinstance(made, Exception):
        why = clean_text(_words_for(made))[:LONGEST_DETAIL]
        return _close(firing, FiringStatus.SKIPPED, reason=SkipReason.REFUSED, detail=why)
    return _close(firing, FiringStatus.STARTED, run=made)


def _close(firing: Firing, status: FiringStatus, **fields: Any) -> Firing:
    firing.status = status
    for name, value in fields.items():
        setattr(firing, name, value)
    firing.save(update_fields=["status", *fields])
    return firing


def _attempt(make: Callable[[], M]) -> M | Exception:
    """What `make` makes, or why it could not: nothing of it is left then. Trouble of the database
    is raised: there is nowhere to write it down, and whoever looks next tries again."""
    try:
        with transaction.atomic():
            return make()
    except DomainError as error:
        return error
    except OperationalError:
        raise
    except Exception as error:
        logger.exception("A run could not be started")
        return error


def _words_for(error: Exception) -> str:
    if isinstance(error, DomainError):
        return error.message
    return "Something went wrong inside Muster; its log has more."


def _post(target: TriggerTarget, event: TriggerEvent) -> tuple[Message, list[File]]:
    """What is to be asked, as a message with its files in the thread that it belongs to."""
    access = _access(target, target.origin(event.kind, event.source))
    thread = event.thread or conversations.create_thread(
        replace(access, user=access.user or _writer(target, event)),
        title=requests.title_of(event.title or str(target.task or target.teammate)),
        teammate=target.teammate,
        end_user=target.end_user,
    )
    text = event.text
    if target.task is not None and event.thread is None:
        text = requests.prompt_of(target.task, text)
    prompt = conversations.post_message(access, thread, text)
    return prompt, write_attachments(thread, event.attachments)


def _writer(target: TriggerTarget, event: TriggerEvent) -> User | None:
    """Who wrote the mail, so that they find the conversation where nobody owns the teammate."""
    is_mail = event.kind == TriggerKind.EMAIL
    return find_member(target.organization, event.source) if is_mail else None


def _run(
    target: TriggerTarget,
    kind: TriggerKind,
    source: str,
    prompt: Message,
    files: list[File],
    *,
    is_new: bool,
) -> Run:
    access = _access(target, target.origin(kind, source))
    request = enqueue.RunRequest(
        prompt.thread,
        prompt,
        target.teammate,
        Options(email_notifications=_is_mailed(target, kind)),
        CHANNELS[kind],
        task=target.task,
        history_of=HistoryOf.TEAMMATE if is_new else HistoryOf.THREAD,
    )
    run = enqueue.enqueue(access, request)
    attach(run, files)
    return run


def _is_mailed(target: TriggerTarget, kind: TriggerKind) -> bool:
    """Results of schedules go to the owner; who calls a webhook is told in other ways, and whoever
    wrote a mail gets an answer anyway."""
    is_schedule = kind == TriggerKind.SCHEDULE
    return is_schedule and target.task is not None and target.task.email_notifications


def _access(target: TriggerTarget, origin: str) -> Access:
    """What is started may do what its owner may, and no more than its origin."""
    access = access_of_owner(target.organization, target.owner)
    if access is None:
        assert target.owner is not None
        raise Forbidden(
            f"{target.owner.display_name}, who set this up, is no longer a member. An owner or an "
            "admin takes it over by switching it on again."
        )
    key = target.task.api_key if target.task is not None else None
    if key is not None and key.revoked_at is not None:
        raise Forbidden(
            f"The key {key.name}, which set this up, is revoked. Look at it, and switch it on "
            "again."
        )
    return narrowed(replace(access, end_user=target.end_user, api_key=key), origin)


def _record(
    target: TriggerTarget, event: TriggerEvent, status: FiringStatus, **fields: Any
) -> Firing:
    return Firing.objects.create(
        organization=target.organization,
        teammate=target.teammate,
        task=target.task,
        trigger=target.trigger,
        kind=event.kind,
        status=status,
        due_at=event.due_at,
        source=clean_text(event.source)[:320],
        event_id=bounded_key(event.event_id),
        received=clean_text(event.received)[:KEPT],
        is_sample=event.is_sample,
        **fields,
    )


def _who_works(task: Task) -> str:
    run = active_runs(task).order_by("id").first()
    if run is None:
        return ""
    return (
        f"Run {run.pk} {'waits for somebody' if run.status == RunStatus.WAITING else 'was at it'}."
    )
