"""Closed accounts: closed at once, erased after a while."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from runs.lifecycle import endings
from runs.models import Run, RunStatus, Task
from runs.retention.cleanup import delete_in_batches
from teammates.access import Access
from teammates.errors import Conflict, Forbidden
from teammates.models import APIKey, Membership, Organization, Teammate, User
from teammates.people import sessions
from teammates.trust import audit
from threads import files
from threads.models import File, Thread


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
    delete_in_batches(Run.objects.filter(organization__closed_at__lt=due))
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
    alone = [user for user in people if Membership.objects.filter(user=user).count() == 1]
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
