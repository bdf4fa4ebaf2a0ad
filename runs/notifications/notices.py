"""What people are told outside of a thread: rows of their own."""

from datetime import timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from runs.models import Firing, Gate, Notice, NoticeKind, Run, RunStatus, TriggerKind
from teammates.access import Access
from teammates.models import Membership, Role, User
from teammates.people.members import find_member
from teammates.types import JSON

MOST_OWNERS = 3


def tell_of_gate(run: Run, gate: Gate) -> None:
    """Notify whoever started the run that it waits, unless somebody decides soon."""
    is_soon_over = gate.expires_at is not None and gate.expires_at <= timezone.now()
    if is_soon_over or not run.organization.approval_email_enabled:
        return
    at = timezone.now() + timedelta(seconds=settings.NOTICE_SECONDS)
    title = f"{run.teammate.name} needs you: {gate.prompt}"[:200]
    _tell(run, NoticeKind.NEEDS_YOU, title, gate=gate, due_at=at)


def tell(run: Run, *, title: str, text: str) -> int:
    """Send a teammate's message to whoever started its run; returns to how many people."""
    return _tell(run, NoticeKind.MESSAGE, title[:200], text=text, due_at=timezone.now())


def tell_of_result(run: Run) -> None:
    """Mail how a run ended, where somebody asked for that: at once to whoever started it by a
    mail, to others unless they look at it themselves soon. Call in its terminal transaction."""
    if run.status not in (RunStatus.COMPLETED, RunStatus.FAILED) or not run.is_mailed:
        return
    if not run.organization.result_email_enabled:
        return
    word = "could not finish" if run.status == RunStatus.FAILED else "is done"
    title = f"{run.teammate.name} {word}: {run.thread.title or run.title}"
    mail = Firing.objects.filter(run=run, kind=TriggerKind.EMAIL).first()
    if mail is not None:
        subject = mail.received.partition("\n")[0].removeprefix("Subject: ")
        title = subject if subject.lower().startswith("re:") else f"Re: {subject or run.title}"
        Notice.objects.create(
            **_somebody(run, mail.source),
            run=run,
            kind=NoticeKind.RESULT,
            title=title[:200],
            answers=mail.event_id if mail.event_id.startswith("<") else "",
        )
        return
    at = timezone.now() + timedelta(seconds=settings.RESULT_SECONDS)
    _tell(run, NoticeKind.RESULT, title[:200], due_at=at)


def _somebody(run: Run, address: str) -> JSON:
    """A mail address, as a member where it is one's."""
    member = find_member(run.organization, address)
    return {"user": member} if member else {"address": address}


def tell_of_trouble(run: Run, *, title: str, text: str, path: str, role: str = "") -> int:
    """Something that runs by itself has stopped doing so, and is looked at under `path`; returns
    how many people are told: whoever started the run, or, with a `role`, all who have it or are
    owners."""
    people = _with_role(run, role) if role else _people_of(run)
    return _tell(
        run, NoticeKind.TROUBLE, title[:200], people, text=text, path=path, due_at=timezone.now()
    )


def _tell(
    run: Run, kind: NoticeKind, title: str, people: list[User] | None = None, **fields: object
) -> int:
    people = _people_of(run) if people is None else people
    made = Notice.objects.bulk_create(
        Notice(user=user, run=run, kind=kind, title=title, **fields) for user in people
    )
    return len(made)


def _with_role(run: Run, role: str) -> list[User]:
    members = Membership.objects.filter(
        organization=run.organization, user__is_active=True, role__in=[role, Role.OWNER]
    ).select_related("user")
    return [membership.user for membership in members.order_by("id")]


def _people_of(run: Run) -> list[User]:
    """Who started the run, if still a member; else the organization's owners."""
    members = Membership.objects.filter(
        organization=run.organization, user__is_active=True
    ).select_related("user")
    if run.created_by_id is not None:
        started = members.filter(user_id=run.created_by_id).first()
        if started is not None:
            return [started.user]
    owners = members.filter(role=Role.OWNER).order_by("id")[:MOST_OWNERS]
    return [membership.user for membership in owners]


def latest_of(access: Access) -> QuerySet[Notice]:
    """One person's notices of the organization, newest first."""
    mine = Notice.objects.filter(user=access.user, run__organization=access.organization)
    return mine.select_related("run").order_by("-id")
