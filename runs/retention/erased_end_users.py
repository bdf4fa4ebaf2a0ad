"""One end user, erased with all they said."""

from django.db import transaction
from django.db.models import Q, TextField, Value
from django.db.models.functions import Cast, Concat
from django.utils import timezone

from runs.models import Firing, Lesson, Mail, Task, TaskStatus, Trigger, WebhookEndpoint
from runs.retention.erasure import ERASED
from teammates.access import Access
from teammates.models import AuditEntry, EndUser, Teammate, TeammateStatus, TeammateVersion
from teammates.people import end_users
from teammates.trust import audit
from threads.models import Thread


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
            end_user.memories,
            end_user.skills,
            end_user.documents,
            end_user.tool_servers,
            end_user.permission_policies,
        ):
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
        name=ERASED,
        instructions=ERASED,
        expected_output="",
        goals="",
        allowed_senders=None,
        status=TaskStatus.ARCHIVED,
        archived_at=timezone.now(),
    )


def _erase_teammates(end_user: EndUser) -> None:
    """They are reached no more, and what they were told is gone from their versions too; the rows
    stay, since runs refer to them."""
    theirs = Teammate.objects.filter(end_user=end_user)
    Mail.objects.filter(teammate__in=theirs).delete()
    TeammateVersion.objects.filter(teammate__in=theirs).update(
        role="", goals="", instructions=ERASED
    )
    theirs.update(
        name=ERASED,
        key=Concat(Value("erased-"), Cast("pk", TextField())),
        metadata=None,
        hook_hash="",
        hook_prefix="",
        hook_enabled=False,
        inbox_name="",
        fetchmail_name="",
        allowed_senders=None,
        slack_enabled=False,
        slack_slug=None,
        slack_senders=None,
        imessage_enabled=False,
        imessage_chat=None,
        imessage_senders=None,
        status=TeammateStatus.ARCHIVED,
        archived_at=timezone.now(),
    )
