"""What is forgotten, and when: closed accounts, and what was said where only numbers are kept."""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone

from runs.models import FINISHED, Gate, Run, RunFile, Step, Task, ToolCall
from teammates import sessions
from teammates.access import Access
from teammates.models import APIKey, Membership, Organization, RetentionMode, Teammate
from threads.models import File, Message, Thread

logger = logging.getLogger("muster.retention")

ERASED = "(erased)"
# Readers of a run that has just ended are still served.
ERASE_AFTER = timedelta(minutes=2)
KEPT_EVENTS = ("run.", "step.")


# --- accounts -----------------------------------------------------------------------------------


def close_account(access: Access) -> Organization:
    """Shut an organization at once: no credential works, nothing starts. Its rows are erased after
    `settings.ERASE_AFTER_DAYS`. For its owner."""
    access.require("org.account.manage")
    now = timezone.now()
    with transaction.atomic():
        organization = Organization.objects.select_for_update().get(pk=access.organization.pk)
        organization.closed_at = organization.closed_at or now
        organization.save(update_fields=["closed_at", "updated_at"])
        keys = APIKey.objects.filter(organization=organization, revoked_at=None)
        keys.update(revoked_at=now)
        for membership in Membership.objects.filter(organization=organization).select_related(
            "user"
        ):
            sessions.end_all_sessions(membership.user)
    return organization


def erased_at(organization: Organization) -> datetime | None:
    """When a closed organization is erased."""
    closed_at = organization.closed_at
    return closed_at and closed_at + timedelta(days=settings.ERASE_AFTER_DAYS)


def erase_closed() -> int:
    """Erase one organization that was closed long enough ago; whether there was one."""
    due = timezone.now() - timedelta(days=settings.ERASE_AFTER_DAYS)
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
    Run.objects.filter(organization=organization).delete()
    Task.objects.filter(organization=organization).delete()
    Thread.objects.filter(organization=organization).delete()
    mine = Teammate.objects.filter(organization=organization)
    mine.update(version=None)
    mine.delete()
    users = Membership.objects.filter(user__in=alone).select_related("user")
    gone = [membership.user for membership in users]
    organization.delete()
    for user in gone:
        user.delete()
    transaction.on_commit(lambda: _delete_files(paths))


def _delete_files(paths: list[str]) -> None:
    for path in paths:
        if not File.objects.filter(stored_as=path).exists():
            default_storage.delete(path)


# --- metadata only ------------------------------------------------------------------------------


def erase_said(limit: int = 50) -> int:
    """Erase what was said in finished runs of organizations that keep numbers alone; how many."""
    due = (
        Run.objects.filter(
            organization__retention_mode=RetentionMode.METADATA_ONLY, erased_at=None,
            status__in=FINISHED, finished_at__lt=timezone.now() - ERASE_AFTER,
        )
        .order_by("id")
        .values_list("pk", flat=True)[:limit]
    )  # fmt: skip
    for run_id in list(due):
        with transaction.atomic():
            _erase_said(run_id)
    return len(due)


def _erase_said(run_id: int) -> None:
    """Words, arguments, results and files go; states, times, names of tools and costs stay."""
    run = Run.objects.select_for_update(no_key=True).select_related("task").get(pk=run_id)
    said = [pk for pk in (run.prompt_id, run.answer_id) if pk is not None]
    Message.objects.filter(pk__in=said).update(content=ERASED)
    Thread.objects.filter(pk=run.thread_id).update(title=ERASED)
    if run.task.is_ad_hoc:
        Task.objects.filter(pk=run.task_id).update(name=ERASED, instructions=ERASED)
    Step.objects.filter(run=run).update(request=None, response=None, error="")
    ToolCall.objects.filter(run=run).update(arguments=None, result=None, summary="", error="")
    Gate.objects.filter(run=run).update(prompt="", request={}, answer=None, card={})
    kept: Any = run.events.none()
    for beginning in KEPT_EVENTS:
        kept = kept | run.events.filter(type__startswith=beginning)
    run.events.exclude(seq__in=list(kept.values_list("seq", flat=True))).delete()
    run.events.filter(type__in=("run.waiting_for_input", "run.input_provided")).delete()
    run.events.filter(type__in=("run.context.loaded", "run.context_compacted")).delete()
    files = list(File.objects.filter(run_files__run=run))
    RunFile.objects.filter(run=run).delete()
    unused = [file for file in files if not file.run_files.exists()]
    File.objects.filter(pk__in=[file.pk for file in unused]).delete()
    run.output_data, run.told, run.erased_at = None, None, timezone.now()
    run.error_message = run.error_message and "The run failed; what it said is not kept."
    run.save(update_fields=["output_data", "told", "erased_at", "error_message"])
    transaction.on_commit(lambda: _delete_files([file.stored_as for file in unused]))
