"""What was said is erased, where only numbers are kept and in deleted conversations; what it cost
stays."""

import logging
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from runs.models import (
    ACTIVE,
    FINISHED,
    DeliveryAttempt,
    DeliveryStatus,
    Firing,
    FiringStatus,
    Gate,
    Notice,
    Run,
    RunFile,
    Step,
    Task,
    ToolCall,
    WebhookDelivery,
)
from teammates.models import RetentionMode
from threads import files
from threads.models import File, Message, Thread

logger = logging.getLogger("muster.retention")
ERASED = "(erased)"
# Readers of a run that has just ended are still served.
ERASE_AFTER = timedelta(minutes=2)
KEPT_EVENTS = (
    "run.started",
    "run.attempt.started",
    "run.attempt.released",
    "run.attempt.lost",
    "run.route.selected",
    "run.paused",
    "run.resumed",
    "run.llm.retry",
    "run.llm.adjusted",
    "run.provider_fallback",
    "run.cancel_requested",
    "run.completed",
    "run.failed",
    "run.cancelled",
    "run.closed",
    "step.started",
    "step.completed",
)
BATCH = 200  # rows that one transaction deletes, with all that hangs on them
# No transaction that wrote to a webhook when it was removed is still open then.
REMOVED_FOR = timedelta(days=1)


def erase_said(limit: int = 50) -> int:
    """Erase what was said in finished runs of organizations that keep numbers alone, from the
    moment on that they do, and in conversations that were deleted a while ago; how many. A thread
    in which something still works is left alone."""
    came_to_nothing = Firing.objects.filter(
        organization__retention_mode=RetentionMode.METADATA_ONLY,
        status=FiringStatus.SKIPPED,
        created_at__gte=F("organization__metadata_only_since"),
    )
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
    )
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
    ToolCall.objects.filter(run=run).update(
        arguments=None, result=None, media=[], summary="", error=""
    )
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


# Readers of a run that has just ended are still served.
