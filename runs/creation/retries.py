"""Runs that failed, tried again."""

from django.db import transaction
from django.db.models import QuerySet

from runs.creation.enqueue import RunRequest, enqueue
from runs.creation.options import options_of_run
from runs.creation.requests import usable_teammate
from runs.models import (
    ACTIVE,
    CallStatus,
    Channel,
    HistoryOf,
    Run,
    RunFile,
    ToolCall,
)
from teammates.access import Access
from teammates.errors import Conflict
from threads.models import Thread


def retry_run(
    access: Access, run: Run, *, confirm: bool = False, channel: Channel = Channel.API
) -> tuple[Run, bool]:
    """A new run of the same request with the same settings, and whether it is new: one that is
    under way is returned instead.

    Raises `Conflict` if the run did not fail, or if it did things that would be done again and
    `confirm` does not say so.
    """
    access.require("data.runs.write", run)
    with transaction.atomic():
        # The run's row is the lock: of two retries at once, the second finds the first.
        Run.objects.select_for_update(no_key=True).get(pk=run.pk)
        run.refresh_from_db(fields=["status", "erased_at"])
        if (under_way := run.retries.filter(status__in=ACTIVE).order_by("-id").first()) is not None:
            return under_way, False
        if not run.is_retryable:
            raise Conflict(
                "Only a failed or cancelled run whose words are kept can be tried again.",
                code="run_not_retryable",
            )
        if not confirm and repeats_actions(run):
            raise Conflict(
                "The run did things that a retry may do again. Confirm to go on.",
                code="retry_needs_confirmation",
            )
        request = RunRequest(
            Thread.objects.get(pk=run.thread_id),
            run.prompt,
            usable_teammate(access, run.teammate_id),
            options_of_run(run),
            channel,
            is_resolved=True,
            task=run.task,
            history_of=HistoryOf(run.history_of),
            reply_to=run.reply_to,
            retry_of=run,
        )
        again = enqueue(access, request)
        for attached in RunFile.objects.filter(run=run, is_attachment=True):
            RunFile.objects.create(run=again, file_id=attached.file_id, is_attachment=True)
        return again, True


def repeats_actions(run: Run) -> bool:
    """Whether the run did, or may have done, something that trying again would do again."""
    return actions_of(run).exists()


def actions_of(run: Run) -> QuerySet[ToolCall]:
    """What the run did, or may have done, that changes something."""
    done = run.tool_calls.exclude(is_action=False)
    return done.filter(
        status__in=[CallStatus.DONE, CallStatus.UNKNOWN, CallStatus.RUNNING]
    ).order_by("pk")
