"""Mails that come in: for a task or a teammate, which they start, or for a mailbox that a teammate
reads (contract v2 5.4)."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from email.utils import parseaddr
from functools import cached_property
from uuid import UUID

from django.conf import settings
from django.db import transaction

from runs.creation.attachments import Attachment
from runs.inbox import mailbox
from runs.inbox.parsing import InboundEmail, read_email, read_head
from runs.inbox.sender_proof import Hints
from runs.models import Firing, FiringStatus, Mail, Run, SkipReason, Trigger, TriggerKind
from runs.triggers import firing, history
from runs.triggers.targets import TriggerEvent, TriggerTarget, target_of
from teammates import timebox
from teammates.errors import PASSING, DomainError, NotFound, TooMany
from teammates.fields import bounded_key
from teammates.models import Membership, Organization, Role, Teammate
from teammates.quoting import as_data
from threads.models import Thread

HEAD_SECONDS, BODY_SECONDS = 1, 5  # of work for reading
LARGEST_MAIL = 25 * 1024 * 1024  # bytes
# Of one sender to one address: two machines that answer each other come to an end.
MOST_PER_HOUR = 30
HOUR = timedelta(hours=1)
SHOWN = 8  # characters of the gateway's token that its page shows later
WRITTEN_TO = "A mail came for you. Answer it as your instructions say."
Inbox = Trigger | Teammate


def is_known(address: str) -> bool:
    """Whether somebody here takes mails for this address."""
    name = _name_of(address)
    return name is not None and (
        Trigger.objects.filter(kind=TriggerKind.EMAIL, inbox_name=name).exists()
        or Teammate.objects.current().filter(inbox_name=name).exists()
        or Teammate.objects.current().filter(fetchmail_name=name).exists()
    )


class Inbound:
    """A mail that came in. Its head is read first: who wrote it, and how often, decides whether its
    body is looked at. Reading takes work of its own (`teammates/timebox.py`), and holds no lock."""

    def __init__(
        self,
        raw: bytes,
        *,
        envelope_sender: str | None = None,
        proven_domains: frozenset[str] | None = None,
    ) -> None:
        self._raw = raw
        self._hints = Hints(
            envelope_sender, settings.MAIL_AUTHSERV, proven_domains, settings.MAIL_BELIEVED
        )

    @cached_property
    def head(self) -> InboundEmail:
        return self._read(HEAD_SECONDS, read_head)

    @cached_property
    def email(self) -> InboundEmail:
        return self._read(BODY_SECONDS, read_email)

    def _read(self, seconds: float, read: Callable[[bytes, Hints], InboundEmail]) -> InboundEmail:
        try:
            return timebox.within(seconds, read, self._raw, self._hints)
        except timebox.TooCostly:  # made to keep its reader busy: nobody's
            return InboundEmail(sender="", message_id=f"<{hashlib.sha256(self._raw).hexdigest()}>")


def receive(
    address: str, inbound: Inbound, *, organization: Organization | None = None
) -> Firing | Mail:
    """Take a mail; again is no second run. Raises `NotFound` for an address that nobody has, in
    `organization` if that is given. Ask `what_holds_up` of what it returns."""
    inbox = _find(address, organization)
    head = inbound.head
    if isinstance(inbox, Reader) or _reason_to_leave_out(inbox, target_of(inbox), head) is None:
        _ = inbound.email  # read before anything is locked
    with transaction.atomic():
        # The row is the lock: of the same mail twice, the second finds the first.
        inbox = _find(address, organization, is_held=True)
        if isinstance(inbox, Reader):
            return mailbox.keep(inbox.teammate, inbound.email)
        return _start(inbox, inbound)


@dataclass(frozen=True)
class Reader:
    """A teammate whose read-only mailbox a mail is for."""

    teammate: Teammate


def _find(
    address: str, organization: Organization | None, *, is_held: bool = False
) -> Inbox | Reader:
    """Whom a mail is for; `is_held` locks the row. Raises `NotFound`."""
    name = _name_of(address) or "-"
    of_task = Trigger.objects.with_task().filter(kind=TriggerKind.EMAIL)
    teammates = Teammate.objects.with_owner().current()
    if organization is not None:
        of_task = of_task.filter(task__organization=organization)
        teammates = teammates.filter(organization=organization)
    if is_held:
        of_task = of_task.select_for_update(no_key=True, of=("self",))
        teammates = teammates.select_for_update(no_key=True, of=("self",))
    found = of_task.filter(inbox_name=name).first() or teammates.filter(inbox_name=name).first()
    if found is not None:
        return found
    reader = teammates.filter(fetchmail_name=name).first()
    if reader is None:
        raise NotFound(f"Nobody has the address {address}.", code="mail.no_such_address")
    return Reader(reader)


def _name_of(address: str) -> str | None:
    """The name of an inbox, from an address of our domain; what follows a + is the sender's."""
    local, _, domain = address.strip().strip("<>").rpartition("@")
    if domain.lower() != settings.MAIL_DOMAIN.lower():
        return None
    return local.partition("+")[0].lower() or None


def what_holds_up(taken: Firing | Mail) -> Exception | None:
    """What kept a mail from starting anything and passes: whoever sent it should try again."""
    if not isinstance(taken, Firing):
        return None
    if taken.reason == SkipReason.RATE:
        return TooMany("Too many mails within a minute.", retry_after=60)
    is_final = isinstance(taken.error, DomainError) and not isinstance(taken.error, PASSING)
    return None if is_final else taken.error


def _start(inbox: Inbox, inbound: Inbound) -> Firing:
    target, head = target_of(inbox), inbound.head
    if dropped := _reason_to_leave_out(inbox, target, head):
        is_strangers = head.why_unproven or not _is_allowed(target, head.sender)
        received = "" if is_strangers else f"Subject: {head.subject}"  # strangers fill nothing
        return firing.skip(target, replace(_event_of(head), received=received), *dropped)
    email = inbound.email
    event = replace(_event_of(email), received=f"Subject: {email.subject}\n\n{email.text}")
    if not email.sender:
        return firing.skip(target, event, SkipReason.BODY, "It is too complicated to be read.")
    thread = _thread_of(target, email)
    attachments = [Attachment(one.name, one.content) for one in email.attachments]
    text = _words_of(email, is_answer=thread is not None)
    return firing.fire(target, replace(event, text=text, thread=thread, attachments=attachments))


def _event_of(email: InboundEmail) -> TriggerEvent:
    return TriggerEvent(
        TriggerKind.EMAIL, source=email.sender, event_id=email.message_id, title=email.subject
    )


def _reason_to_leave_out(
    inbox: Inbox, target: TriggerTarget, head: InboundEmail
) -> tuple[SkipReason, str] | None:
    """Why a mail starts nothing, judged by its head, and the same in words."""
    if history.find_event(target, _event_of(head)) is not None:
        return SkipReason.DUPLICATE, ""
    reason, detail = _refusal(inbox, target, head)
    return (reason, detail) if reason is not None else None


def _refusal(
    inbox: Inbox, target: TriggerTarget, email: InboundEmail
) -> tuple[SkipReason | None, str]:
    is_active = inbox.is_active if isinstance(inbox, Trigger) else inbox.is_enabled
    refusal = firing.refusal(target, TriggerKind.EMAIL, is_active=is_active)
    if refusal == SkipReason.PAUSED:
        return refusal, ""
    if not email.sender:
        return SkipReason.BODY, "It names no sender, or several."
    if is_known(email.sender) or email.sender == _our_address():
        return SkipReason.AUTOMATIC, "It came from an address of our own."
    if email.why_automatic:
        return SkipReason.AUTOMATIC, email.why_automatic
    if not _is_allowed(target, email.sender):
        return SkipReason.SENDER, ""
    if email.why_unproven:
        return SkipReason.SENDER, email.why_unproven
    theirs = target.firings.filter(kind=TriggerKind.EMAIL, source=email.sender)
    if history.came_often(theirs.exclude(status=FiringStatus.SKIPPED), MOST_PER_HOUR, HOUR):
        return (
            SkipReason.AUTOMATIC,
            f"It is the sender's {MOST_PER_HOUR + 1}st mail within an hour.",
        )
    return refusal, ""


def _our_address() -> str:
    return parseaddr(settings.DEFAULT_FROM_EMAIL)[1].lower()


def _is_allowed(target: TriggerTarget, sender: str) -> bool:
    """Exact addresses or `@domain`; where none are named, whoever owns the work."""
    if not sender:
        return False
    allowed = (target.task or target.teammate).allowed_senders or _owners(target)
    domain = sender[sender.rindex("@") :]
    return any(entry.lower() in (sender, domain) for entry in allowed)


def _owners(target: TriggerTarget) -> list[str]:
    if target.owner is not None:
        return [target.owner.email]
    owners = Membership.objects.filter(organization=target.organization, role=Role.OWNER)
    return list(owners.values_list("user__email", flat=True))


def _thread_of(target: TriggerTarget, email: InboundEmail) -> Thread | None:
    """The conversation of its sender that a mail continues: it answers a mail of ours, or one that
    began it."""
    mine = Run.objects.filter(
        organization=target.organization,
        teammate=target.teammate,
        origin=target.origin(TriggerKind.EMAIL, email.sender),
    )
    uids = [uid for ref in email.references if (uid := _notice_uid(ref))]
    found = mine.filter(notices__uid__in=uids).order_by("-id").first() or (
        mine.filter(
            firing__organization=target.organization,
            firing__event_id__in=[bounded_key(ref) for ref in email.references],
        )
        .order_by("-id")
        .first()
        if email.references
        else None
    )
    if found is None:
        return None
    return Thread.objects.filter(pk=found.thread_id, deleted_at=None).first()


def _notice_uid(reference: str) -> UUID | None:
    """Of the Message-ID of a mail that we sent."""
    uid, _, domain = reference.strip("<>").partition("@")
    if domain.lower() != settings.MAIL_DOMAIN.lower():
        return None
    try:
        return UUID(uid)
    except ValueError:
        return None


def _words_of(email: InboundEmail, *, is_answer: bool) -> str:
    text = email.new_text if is_answer else email.text
    who = f"{email.sender_name} <{email.sender}>" if email.sender_name else email.sender
    head = f"From: {who}" if is_answer else f"From: {who}\nSubject: {email.subject or 'none'}"
    text = f"{head}\n\n{text or '(The mail has no text.)'}"
    if email.dropped:
        text += f"\n\nNot taken over, too large or too many: {', '.join(email.dropped)}"
    return f"{WRITTEN_TO}\n\n{as_data(text, 'a mail')}"
