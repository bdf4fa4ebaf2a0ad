"""E-mails about what people are told.

A notice is written in the transaction of what it tells. A worker mails it later, at least once: a
worker that dies between sending and saying so sends again, under the same Message-ID.
"""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.utils import formataddr, parseaddr

from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from runs.models import Firing, Notice, NoticeKind, Run, RunFile, TriggerKind
from runs.notifications.decision_links import LINK_LIFE
from teammates.errors import TooMany
from teammates.fields import hash_secret
from teammates.models import Membership
from teammates.people import account_mail
from teammates.trust import limits
from threads import files
from threads.models import File

logger = logging.getLogger("muster.notices")
MOST_ATTEMPTS = 5
MOST_AT_ONCE = 10  # mails that a worker takes; they are sent one after the other
MOST_FILES = 20  # of a run that its mail names
LARGEST_ENCLOSED = 10 * 1024 * 1024  # bytes of files in a mail
# An answer to such a mail goes on with the conversation.
ANSWERABLE = (NoticeKind.RESULT, NoticeKind.MESSAGE)


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
    ).first()
    return member is not None and notice.kind not in member.not_mailed


@dataclass(frozen=True)
class OutgoingMail:
    notice_id: int
    message: EmailMessage
    written: Sequence[File] = ()  # what the run wrote


def due() -> "QuerySet[Notice]":
    return Notice.objects.filter(due_at__lte=Now())


def claim_due() -> list[OutgoingMail]:
    """Take what is due to be mailed. Until `record_sent`, each is due again after a while."""
    mails: list[OutgoingMail] = []
    for pk in list(due().order_by("due_at").values_list("pk", flat=True)[:MOST_AT_ONCE]):
        try:
            outgoing = _claim_one(pk)
        except Exception:  # one that cannot be written holds up no other
            logger.exception("Notice %s could not be written as a mail", pk)
            _record(pk, "It could not be written.")
        else:
            mails += [outgoing] if outgoing else []
    return mails


def _claim_one(pk: int) -> OutgoingMail | None:
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
    return _mail_of(notice, link)


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
        notice.link_hash = hash_secret(token)
        notice.link_expires_at = timezone.now() + LINK_LIFE
        link = account_mail.public_url() + reverse("runs:gate_link", args=[token])
    notice.attempts += 1
    notice.due_at = timezone.now() + timedelta(minutes=5 * notice.attempts)
    notice.save(update_fields=["link_hash", "link_expires_at", "attempts", "due_at"])
    return link


def _mail_of(notice: Notice, link: str) -> OutgoingMail:
    run = notice.run
    written = [
        one.file
        for one in RunFile.objects.filter(run=run, is_attachment=False)
        .select_related("file")
        .order_by("id")[:MOST_FILES]
    ]
    inbox = _inbox_of(run)
    context = {
        "notice": notice,
        "run": run,
        "gate": notice.gate,
        "link": link,
        "inbox": inbox,
        "run_url": account_mail.public_url() + run.get_absolute_url(),
        "settings_url": account_mail.public_url() + reverse("runs:notice_settings"),
        "written": written,
        "where": account_mail.public_url() + notice.get_absolute_url(),
    }
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
        return OutgoingMail(notice.pk, message, written)
    return OutgoingMail(notice.pk, message)


def _inbox_of(run: Run) -> str | None:
    """Where an answer goes on with the run's conversation: the address that its mail came to."""
    mail = Firing.objects.filter(run=run, kind=TriggerKind.EMAIL).select_related("trigger").first()
    came_to = mail.trigger.email_address if mail is not None and mail.trigger is not None else None
    return came_to or run.teammate.email_address


def send(outgoing: OutgoingMail) -> str:
    """Hand a outgoing to the mail server; returns what went wrong. Not in a transaction."""
    try:
        _attach(outgoing.message, outgoing.written)
        outgoing.message.send()
    except Exception as error:
        logger.warning("Notice %s could not be mailed: %s", outgoing.notice_id, error)
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


def record_sent(outgoing: OutgoingMail, problem: str) -> None:
    _record(outgoing.notice_id, problem)


def _record(notice_id: int, problem: str) -> None:
    notice = Notice.objects.get(pk=notice_id)
    notice.problem = problem
    if not problem:
        notice.sent_at, notice.due_at = timezone.now(), None
    elif notice.attempts >= MOST_ATTEMPTS:
        notice.due_at = None
    notice.save(update_fields=["problem", "sent_at", "due_at"])
