"""What is forgotten, and when: closed accounts, end users, deleted conversations, and what was said
where only numbers are kept."""

import logging
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, Concat
from django.utils import timezone

from runs.inbox import mailbox
from runs.lifecycle import endings
from runs.models import (
    ACTIVE,
    FINISHED,
    DeliveryAttempt,
    DeliveryStatus,
    Firing,
    FiringStatus,
    Gate,
    IdempotencyKey,
    Lesson,
    Mail,
    Notice,
    Run,
    RunFile,
    RunStatus,
    Step,
    Task,
    TaskStatus,
    ToolCall,
    Trigger,
    WebhookDelivery,
    WebhookEndpoint,
    WorkerBeat,
)
from teammates import audit, end_users, limits, mail, sessions
from teammates.access import Access
from teammates.errors import Conflict, Forbidden
from teammates.models import (
    APIKey,
    AuditEntry,
    EndUser,
    Membership,
    Organization,
    RefreshToken,
    RetentionMode,
    Teammate,
    TeammateStatus,
    TeammateVersion,
    User,
)
from threads import files
from threads.models import File, Message, Thread

logger = logging.getLogger("muster.retention")

ERASED = "(erased)"
# Readers of a run that has just ended are still served.
ERASE_AFTER = timedelta(minutes=2)
KEPT_EVENTS = (
    "run.started", "run.attempt.started", "run.attempt.released", "run.attempt.lost",
    "run.route.selected", "run.paused", "run.resumed", "run.llm.retry", "run.provider_fallback",
    "run.cancel_requested", "run.completed", "run.failed", "run.cancelled", "run.closed",
    "step.started", "step.completed",
)  # fmt: skip
BATCH = 200  # rows that one transaction deletes, with all that hangs on them
# No transaction that wrote to a webhook when it was removed is still open then.
REMOVED_FOR = timedelta(days=1)


# --- accounts -----------------------------------------------------------------------------------


@audit.recorded("account.close", of_organization=True)
def close_account(access: Access) -> Organization:
    """Shut an organization at once: no credential works, nothing starts. Its rows are erased after
    `settings.ERASE_AFTER_DAYS`. For its owner."""
    access.require("org.account.manage")
    if access.user is not None and not access.user.has_usable_password():
        raise Forbidden("Claim the account first: open the link in the mail.")
    if access.organization.is_home:
        raise Conflict(
            "This is the installation's own account. To be rid of it, stop Muster and delete its "
            "data folder.",
            code="account.is_home",
        )
    now = timezone.now()
    with transaction.atomic():
        # Workers that finish a run of it hold the run and need the key of this row: no_key.
        locked = Organization.objects.select_for_update(no_key=True)
        organization = locked.get(pk=access.organization.pk)
        organization.closed_at = organization.closed_at or now
        organization.save(update_fields=["closed_at", "updated_at"])
        keys = APIKey.objects.filter(organization=organization, revoked_at=None)
        keys.update(revoked_at=now)
        for membership in Membership.objects.filter(organization=organization).select_related(
            "user"
        ):
            sessions.end_all_sessions(membership.user)
    for run in Run.objects.filter(organization=organization, status=RunStatus.RUNNING):
        endings.cancel_run(run)  # what waits is closed by the sweep
    return organization


def erased_at(organization: Organization) -> datetime | None:
    """When a closed organization is erased."""
    closed_at = organization.closed_at
    return closed_at and closed_at + timedelta(days=settings.ERASE_AFTER_DAYS)


def erase_closed() -> int:
    """Erase one organization that was closed long enough ago; whether there was one."""
    due = timezone.now() - timedelta(days=settings.ERASE_AFTER_DAYS)
    _delete_in_batches(Run.objects.filter(organization__closed_at__lt=due))
    with transaction.atomic():
        closed = Organization.objects.select_for_update(skip_locked=True)
        organization = closed.filter(closed_at__lt=due).order_by("id").first()
        if organization is None:
            return 0
        _erase(organization)
    return 1


def _erase(organization: Organization) -> None:
    """In the order in which rows protect each other."""
    stored = File.objects.filter(thread__organization=organization)
    paths = list(stored.values_list("stored_as", flat=True).distinct())
    people = Membership.objects.filter(organization=organization).values_list("user", flat=True)
    alone = [
        user for user in people if Membership.objects.filter(user=user).count() == 1
    ]  # fmt: skip
    Organization.objects.filter(pk=organization.pk).update(default_teammate=None)
    Task.objects.filter(organization=organization).delete()
    Thread.objects.filter(organization=organization).delete()
    mine = Teammate.objects.filter(organization=organization)
    mine.update(version=None)
    mine.delete()
    users = Membership.objects.filter(user__in=alone).select_related("user")
    gone = [membership.user for membership in users]
    organization.delete()
    for user in gone:
        _forget(user)
    transaction.on_commit(lambda: files.delete_unused(paths))


def _forget(user: User) -> None:
    """Who left work behind in another organization stays there as nobody: work without anybody's
    name would be the organization's own, and could do whatever its admins can."""
    has_left_work = (
        Task.objects.filter(created_by=user).exists()
        or Teammate.objects.filter(created_by=user).exists()
    )
    if not has_left_work:
        user.delete()
        return
    user.email, user.username, user.name = f"erased-{user.uid}@muster.invalid", "", "Erased"
    user.is_active = False
    user.set_unusable_password()
    user.save()


# --- one end user -------------------------------------------------------------------------------


@audit.recorded("user.erase")
def erase_end_user(access: Access, end_user: EndUser) -> None:
    """Erase who an end user is, all they said, and what is known of them. The conversations are
    gone at once, their words within minutes; what was used and paid stays as numbers, and limits
    stay, so that a block is not lifted by it. Raises `Forbidden`."""
    access.require("data.end_users.manage", end_user)
    now = timezone.now()
    with transaction.atomic():
        end_users.remove_profile(access, end_user)
        EndUser.objects.filter(pk=end_user.pk).update(erased_at=now)
        WebhookEndpoint.objects.filter(end_user=end_user).update(
            deleted_at=now, active=False, secret="", old_secret=""
        )
        Thread.objects.filter(end_user=end_user).update(deleted_at=now)
        Firing.objects.filter(
            Q(run__end_user=end_user) | Q(task__end_user=end_user) | Q(teammate__end_user=end_user)
        ).update(source="", detail="", received="")
        _erase_from_audit(end_user)
        for theirs in (
            end_user.memories, end_user.skills, end_user.documents, end_user.tool_servers,
            end_user.permission_policies,
        ):  # fmt: skip
            theirs.all().delete()
        _erase_tasks(end_user)
        _erase_teammates(end_user)


def _erase_from_audit(end_user: EndUser) -> None:
    """Who changed something of theirs stays in the log, without its name and what it said."""
    AuditEntry.objects.filter(end_user=end_user).update(subject="", changes=None)


def _erase_tasks(end_user: EndUser) -> None:
    """Nothing starts them any more; the rows stay, since runs refer to them."""
    theirs = Task.objects.filter(end_user=end_user)
    Trigger.objects.filter(task__in=theirs).delete()
    Lesson.objects.filter(task__in=theirs).delete()
    # The silent ones of single runs are erased with their runs.
    theirs.saved().update(
        name=ERASED, instructions=ERASED, expected_output="", goals="", allowed_senders=None,
        status=TaskStatus.ARCHIVED, archived_at=timezone.now(),
    )  # fmt: skip


def _erase_teammates(end_user: EndUser) -> None:
    """They are reached no more, and what they were told is gone from their versions too; the rows
    stay, since runs refer to them."""
    theirs = Teammate.objects.filter(end_user=end_user)
    Mail.objects.filter(teammate__in=theirs).delete()
    TeammateVersion.objects.filter(teammate__in=theirs).update(
        role="", goals="", instructions=ERASED
    )
    theirs.update(
        name=ERASED, key=Concat(Value("erased-"), Cast("pk", TextField())), metadata=None,
        hook_hash="", hook_prefix="", hook_enabled=False, inbox_name="", fetchmail_name="",
        allowed_senders=None, slack_enabled=False, slack_slug=None, slack_senders=None,
        imessage_enabled=False, imessage_chat=None, imessage_senders=None,
        status=TeammateStatus.ARCHIVED, archived_at=timezone.now(),
    )  # fmt: skip


# --- metadata only ------------------------------------------------------------------------------


def erase_said(limit: int = 50) -> int:
    """Erase what was said in finished runs of organizations that keep numbers alone, from the
    moment on that they do, and in conversations that were deleted a while ago; how many. A thread
    in which something still works is left alone."""
    came_to_nothing = Firing.objects.filter(
        organization__retention_mode=RetentionMode.METADATA_ONLY, status=FiringStatus.SKIPPED,
        created_at__gte=F("organization__metadata_only_since"),
    )  # fmt: skip
    came_to_nothing.exclude(received="").update(received="")
    working = Run.objects.filter(thread=OuterRef("thread"), status__in=ACTIVE)
    numbers_alone = Q(
        organization__retention_mode=RetentionMode.METADATA_ONLY,
        created_at__gte=F("organization__metadata_only_since"),
        finished_at__lt=timezone.now() - ERASE_AFTER,
    )
    long_ago = timezone.now() - timedelta(days=settings.ERASE_AFTER_DAYS)
    is_deleted = Q(thread__deleted_at__lt=long_ago)
    is_deleted |= Q(thread__deleted_at__lte=F("end_user__erased_at"))
    due = (
        Run.objects.filter(numbers_alone | is_deleted, erased_at=None, status__in=FINISHED)
        .exclude(Exists(working))
        .order_by("id")
        .values_list("pk", "thread_id")[:limit]
    )  # fmt: skip
    erased = 0
    for run_id, thread_id in list(due):
        with transaction.atomic():
            # The thread first, as whoever replies does: nothing begins in it meanwhile.
            Thread.objects.select_for_update(no_key=True).get(pk=thread_id)
            if not Run.objects.filter(thread=thread_id, status__in=ACTIVE).exists():
                erased += _erase_said(run_id)
    _erase_left_over(long_ago)
    return erased


def _erase_left_over(deleted_before: datetime) -> None:
    """In deleted conversations whose runs are all erased, or that never had one: what is left."""
    unerased = Run.objects.filter(thread=OuterRef("pk"), erased_at=None)
    left_over = ~Q(title=ERASED) | Exists(File.objects.filter(thread=OuterRef("pk")))
    threads = Thread.objects.filter(
        Q(deleted_at__lt=deleted_before) | Q(deleted_at__lte=F("end_user__erased_at"))
    )
    for thread in threads.filter(left_over).exclude(Exists(unerased))[:BATCH]:
        with transaction.atomic():
            Message.objects.filter(thread=thread).update(content=ERASED)
            paths = list(thread.files.values_list("stored_as", flat=True))
            thread.files.all().delete()
            Thread.objects.filter(pk=thread.pk).update(title=ERASED)
            transaction.on_commit(partial(files.delete_unused, paths))


def _erase_said(run_id: int) -> int:
    """Words, arguments, results and files go; states, times, names of tools and costs stay."""
    runs = Run.objects.select_for_update(no_key=True, of=("self",)).select_related("task")
    run = runs.filter(pk=run_id, erased_at=None).first()
    if run is None:
        return 0
    Message.objects.filter(thread=run.thread_id).update(content=ERASED)
    Thread.objects.filter(pk=run.thread_id).update(title=ERASED)
    if run.task.is_ad_hoc:
        Task.objects.filter(pk=run.task_id).update(name=ERASED, instructions=ERASED)
    Step.objects.filter(run=run).update(request=None, response=None, error="")
    ToolCall.objects.filter(run=run).update(arguments=None, result=None, summary="", error="")
    Gate.objects.filter(run=run).update(prompt="", request={}, answer=None, card={})
    Notice.objects.filter(run=run).delete()
    WebhookDelivery.objects.filter(run=run).exclude(status=DeliveryStatus.PENDING).update(
        body="", response_body=""
    )
    DeliveryAttempt.objects.filter(delivery__run=run).update(response_body="")
    Firing.objects.filter(run=run).update(received="")
    _erase_events(run)
    written = list(File.objects.filter(run_files__run=run))
    RunFile.objects.filter(run=run).delete()
    unused = [file for file in written if not file.run_files.exists()]
    File.objects.filter(pk__in=[file.pk for file in unused]).delete()
    run.output_data, run.told, run.erased_at = None, None, timezone.now()
    run.error_message = run.error_message and "The run failed; what it said is not kept."
    run.save(update_fields=["output_data", "told", "erased_at", "error_message"])
    paths = [file.stored_as for file in unused]
    transaction.on_commit(lambda: files.delete_unused(paths))
    return 1


def _erase_events(run: Run) -> None:
    """What tells of states stays, without its words: the one place where events are edited."""
    run.events.exclude(type__in=KEPT_EVENTS).delete()
    for event in run.events.filter(data__has_key="message"):
        words = {name: value for name, value in event.data.items() if name != "message"}
        run.events.filter(seq=event.seq).update(data=words)


# --- rows that nobody needs any more ------------------------------------------------------------


def forget_old() -> None:
    """Ended sessions and limits, expired idempotency keys, old entries of the logs, mails that no
    server took, removed webhooks, and workers that have long been silent."""
    now = timezone.now()
    RefreshToken.objects.filter(expires_at__lt=now).delete()
    IdempotencyKey.objects.filter(claimed_at__lt=now - timedelta(days=2)).delete()
    AuditEntry.objects.filter(created_at__lt=now - timedelta(days=settings.AUDIT_DAYS)).delete()
    WorkerBeat.objects.filter(seen_at__lt=now - timedelta(days=1)).delete()
    mailbox.forget_old()
    limits.forget_ended()
    logged = now - timedelta(days=settings.LOG_DAYS)
    _delete_in_batches(WebhookDelivery.objects.filter(created_at__lt=logged))
    firings = Firing.objects.filter(created_at__lt=logged)
    _delete_in_batches(firings.exclude(status=FiringStatus.WAITING))
    removed = WebhookEndpoint.objects.filter(deleted_at__lt=now - REMOVED_FOR)
    _delete_in_batches(WebhookDelivery.objects.filter(endpoint__in=removed))
    removed.delete()
    mail.forget_kept(logged)


def _delete_in_batches(rows: QuerySet[Any]) -> None:
    while pks := list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        rows.model._default_manager.filter(pk__in=pks).delete()
