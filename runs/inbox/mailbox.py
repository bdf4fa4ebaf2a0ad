"""The read-only mailboxes of teammates: mails that they may read, and that start nothing."""

from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from runs.inbox.parsing import InboundEmail
from runs.models import Mail
from teammates.errors import TooMany
from teammates.fields import bounded_key
from teammates.models import Teammate

MOST_KEPT = 100  # mails of a mailbox
KEPT_FOR = timedelta(hours=48)
MINUTE = timedelta(minutes=1)
MOST_PER_MINUTE = 30


def keep(teammate: Teammate, email: InboundEmail) -> Mail:
    """Add a mail; the same again is the one that is there. The caller holds the teammate."""
    key = bounded_key(email.message_id)
    again = Mail.objects.filter(teammate=teammate, message_id=key).first()
    if again is not None:
        return again
    lately = Mail.objects.filter(teammate=teammate, created_at__gt=timezone.now() - MINUTE)
    if lately[:MOST_PER_MINUTE].count() >= MOST_PER_MINUTE:
        raise TooMany("This mailbox takes no more mails within a minute.", retry_after=60)
    names = [one.name for one in email.attachments]
    made = Mail.objects.create(
        teammate=teammate,
        sender=email.sender[:320],
        subject=email.subject,
        text=email.text[:100_000],
        attachments=names,
        message_id=key,
    )
    kept = Mail.objects.filter(teammate=teammate).order_by("-id")[:MOST_KEPT]
    Mail.objects.filter(teammate=teammate).exclude(pk__in=kept.values("pk")).delete()
    return made


def forget_old() -> None:
    Mail.objects.filter(created_at__lt=timezone.now() - KEPT_FOR).delete()


def mails_of(teammate: Teammate, words: str = "") -> list[Mail]:
    """What the mailbox holds, newest first; with `words`, where they occur."""
    mine = Mail.objects.filter(teammate=teammate, created_at__gt=timezone.now() - KEPT_FOR)
    if words:
        mine = mine.filter(
            Q(subject__icontains=words) | Q(text__icontains=words) | Q(sender__icontains=words)
        )
    return list(mine.order_by("-id")[:MOST_KEPT])
