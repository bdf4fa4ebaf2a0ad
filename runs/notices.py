"""What people are told outside of a thread: rows of their own, and e-mails about them.

A notice is written in the transaction of what it tells. A worker mails it later, at least once: a
worker that dies between sending and saying so sends again, under the same Message-ID.
"""

import hashlib
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.utils import formataddr, parseaddr
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.db import transaction
from django.db.models import QuerySet
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from runs.models import (
    Firing,
    Gate,
    Notice,
    NoticeKind,
    Run,
    RunFile,
    RunStatus,
    TriggerKind,
)
from teammates import limits, mail
from teammates.access import Access
from teammates.errors import NotFound, TooMany
from teammates.members import find_member
from teammates.models import Membership, Role, User
from threads import files
from threads.models import File

logger = logging.getLogger("muster.notices")

MOST_ATTEMPTS = 5
LINK_LIFE = timedelta(days=7)
MOST_OWNERS = 3
MOST_AT_ONCE = 10  # mails that a worker takes; they are sent one after the other
MOST_FILES = 20  # of a run that its mail names
LARGEST_ENCLOSED = 10 * 1024 * 1024  # bytes of files in a mail
# An answer to such a mail goes on with the conversation.
ANSWERABLE = (NoticeKind.RESULT, NoticeKind.MESSAGE)


def tell_of_gate(run: Run, gate: Gate) -> None:
    """Let whoever started the run know that it waits, unless somebody decides soon."""
    is_soon_over = gate.expires_at is not None and gate.expires_at <= timezone.now()
    if is_soon_over or not run.organization.approval_email_enabled:
        return
    at = timezone.now() + timedelta(seconds=settings.NOTICE_SECONDS)
    title = f"{run.teammate.name} needs you: {gate.prompt}"[:200]
    _tell(run, NoticeKind.NEEDS_YOU, title, gate=gate, due_at=at)


def tell(run: Run, *, title: str, text: str) -> int:
    """A teammate's message to whoever started its run; returns how many people are told."""
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
            **_somebody(run, mail.source), run=run, kind=NoticeKind.RESULT, title=title[:200],
            answers=mail.event_id if mail.event_id.startswith("<") else "",
        )  # fmt: skip
        return
    at = timezone.now() + timedelta(seconds=settings.RESULT_SECONDS)
    _tell(run, NoticeKind.RESULT, title[:200], due_at=at)


def _somebody(run: Run, address: str) -> dict[str, Any]:
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
    ).select_related("user")  # fmt: skip
    return [membership.user for membership in members.order_by("id")]


def _people_of(run: Run) -> list[User]:
    """Who started the run, if still a member; else the organization's owners."""
    members = Membership.objects.filter(
        organization=run.organization, user__is_active=True
    ).select_related("user")  # fmt: skip
    if run.created_by_id is not None:
        started = members.filter(user_id=run.created_by_id).first()
        if started is not None:
            return [started.user]
    owners = members.filter(role=Role.OWNER).order_by("id")[:MOST_OWNERS]
    return [membership.user for membership in owners]


def _is_wanted(notice: Notice) -> bool:
    """Whether it is still worth a mail, and its person wants one."""
    if notice.gate is not None and not notice.gate.is_pending:
        return False
    is_seen = notice.run.last_viewed_at is not None
    if notice.kind == NoticeKind.RESULT and not notice.answers and is_seen:
        return False
    if notice.user is None:
        return True
    member = Membership.objects.filter(
        organization=notice.run.organization, user=notice.user, user__is_active=True
    ).first()  # fmt: skip
    return member is not None and notice.kind not in member.not_mailed


# --- mail ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Letter:
    notice_id: int
    message: EmailMessage
    written: Sequence[File] = ()  # what the run wrote


def claim_due() -> list[Letter]:
    """Take what is due to be mailed. Until `record_sent`, each is due again after a while."""
    due = Notice.objects.filter(due_at__lte=timezone.now()).order_by("due_at")
    letters: list[Letter] = []
    for pk in list(due.values_list("pk", flat=True)[:MOST_AT_ONCE]):
        try:
            letter = _claim_one(pk)
        except Exception:  # one that cannot be written holds up no other
            logger.exception("Notice %s could not be written as a mail", pk)
            _record(pk, "It could not be written.")
        else:
            letters += [letter] if letter else []
    return letters


def _claim_one(pk: int) -> Letter | None:
    """None where it is not wanted any more, not now, or another worker has it."""
    with transaction.atomic():  # of its own: workers that count in it never wait in a ring
        notice = (
            Notice.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(pk=pk, due_at__lte=timezone.now())
            .select_related(
                "user",
                "run__teammate",
                "run__organization",
                "run__answer",
                "run__thread",
                "run__prompt",
                "run__task",
                "gate",
            )
            .first()
        )
        if notice is None:
            return None
        if not _is_wanted(notice):
            notice.due_at = None
            notice.save(update_fields=["due_at"])
            return None
        try:
            _count(notice)
        except TooMany as error:  # later, and not as a failed attempt
            notice.due_at = timezone.now() + timedelta(seconds=error.retry_after)
            notice.save(update_fields=["due_at"])
            return None
        link = _claim(notice)
    return _letter(notice, link)


def _count(notice: Notice) -> None:
    """Raises `TooMany` where so many mails go to one address, or out of one organization, that
    somebody is being flooded. What does not go out takes no place of the organization's."""
    to = notice.user.email if notice.user else notice.address
    limits.take((limits.NOTICES_TO, to))
    limits.take((limits.NOTICES, notice.run.organization_id))


def _claim(notice: Notice) -> str:
    """Count the attempt; returns the one-time link, if the notice has one."""
    link = ""
    if notice.gate is not None:
        token = secrets.token_urlsafe(32)
        notice.link_hash = _hash(token)
        notice.link_expires_at = timezone.now() + LINK_LIFE
        link = mail.public_url() + reverse("runs:gate_link", args=[token])
    notice.attempts += 1
    notice.due_at = timezone.now() + timedelta(minutes=5 * notice.attempts)
    notice.save(update_fields=["link_hash", "link_expires_at", "attempts", "due_at"])
    return link


def _letter(notice: Notice, link: str) -> Letter:
    run = notice.run
    written = [one.file for one in RunFile.objects.filter(
        run=run, is_attachment=False
    ).select_related("file").order_by("id")[:MOST_FILES]]  # fmt: skip
    inbox = _inbox_of(run)
    context = {
        "notice": notice, "run": run, "gate": notice.gate, "link": link, "inbox": inbox,
        "run_url": mail.public_url() + run.get_absolute_url(),
        "settings_url": mail.public_url() + reverse("runs:notice_settings"),
        "written": written, "where": mail.public_url() + notice.get_absolute_url(),
    }  # fmt: skip
    headers = {
        "Message-ID": f"<{notice.uid}@{settings.MAIL_DOMAIN}>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
    }
    if notice.answers:
        headers |= {"In-Reply-To": notice.answers, "References": notice.answers}
    message = EmailMultiAlternatives(
        subject=" ".join(notice.title.split()),
        body=render_to_string(f"emails/{notice.kind}.txt", context),
        from_email=formataddr((run.teammate.name, parseaddr(settings.DEFAULT_FROM_EMAIL)[1])),
        to=[notice.user.email if notice.user else notice.address],
        reply_to=[inbox] if inbox and notice.kind in ANSWERABLE else None,
        headers=headers,
    )
    if notice.kind == NoticeKind.RESULT:
        message.attach_alternative(render_to_string("emails/result.html", context), "text/html")
        return Letter(notice.pk, message, written)
    return Letter(notice.pk, message)


def _inbox_of(run: Run) -> str | None:
    """Where an answer goes on with the run's conversation: the address that its mail came to."""
    mail = Firing.objects.filter(run=run, kind=TriggerKind.EMAIL).select_related("trigger").first()
    came_to = mail.trigger.email_address if mail is not None and mail.trigger is not None else None
    return came_to or run.teammate.email_address


def send(letter: Letter) -> str:
    """Hand a letter to the mail server; returns what went wrong. Not in a transaction."""
    try:
        _attach(letter.message, letter.written)
        letter.message.send()
    except Exception as error:
        logger.warning("Notice %s could not be mailed: %s", letter.notice_id, error)
        return f"{type(error).__name__}: {error}"[:300]
    return ""


def _attach(message: EmailMessage, written: Sequence[File]) -> None:
    """The run's files, as many as a mail server takes; the text names them all."""
    room = LARGEST_ENCLOSED
    for file in written:
        if file.size > room:
            continue
        try:
            message.attach(file.name, files.read_file(file))
            room -= file.size
        except OSError:
            logger.warning("File %s could not be read for a mail", file.pk)


def record_sent(letter: Letter, problem: str) -> None:
    _record(letter.notice_id, problem)


def _record(notice_id: int, problem: str) -> None:
    notice = Notice.objects.get(pk=notice_id)
    notice.problem = problem
    if not problem:
        notice.sent_at, notice.due_at = timezone.now(), None
    elif notice.attempts >= MOST_ATTEMPTS:
        notice.due_at = None
    notice.save(update_fields=["problem", "sent_at", "due_at"])


def latest_of(access: Access) -> QuerySet[Notice]:
    """One person's notices of the organization, newest first."""
    mine = Notice.objects.filter(user=access.user, run__organization=access.organization)
    return mine.select_related("run").order_by("-id")


# --- the one-time link --------------------------------------------------------------------------


def find_link(token: str) -> Notice:
    """The notice whose link this is. Raises `NotFound` if it is none, too old, or used."""
    found = (
        Notice.objects.filter(
            link_hash=_hash(token), link_used_at=None, link_expires_at__gt=timezone.now()
        )
        .select_related("user", "run__organization", "run__teammate", "gate")
        .first()
    )
    if found is None or found.gate is None:
        raise NotFound(
            "This link was used already, is too old, or is none. Sign in and look under Needs you."
        )
    return found


def use_link(notice: Notice) -> None:
    """Spend the link; call in the transaction of the decision. Raises `NotFound` the second
    time."""
    spent = Notice.objects.filter(pk=notice.pk, link_used_at=None).update(
        link_used_at=timezone.now()
    )
    if not spent:
        raise NotFound("This link was used already.")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
