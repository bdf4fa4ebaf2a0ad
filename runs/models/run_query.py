"""Queries of runs."""

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Self

from django.db import models

from runs.models.run_status import (
    NEEDS_SOMEBODY,
    RunStatus,
)
from teammates.models.scoped import OwnedQuerySet

if TYPE_CHECKING:
    from runs.models.run import Run
    from teammates.access import Access


class LocalDay(models.Func):
    """The day of an instant in a timezone."""

    arg_joiner = " AT TIME ZONE "
    template = "(%(expressions)s)::date"
    output_field = models.DateField()


class RunQuerySet(OwnedQuerySet["Run"]):
    def visible_to(self, access: "Access") -> Self:
        """With a conversation that was deleted, its runs are gone for everybody."""
        return super().visible_to(access).filter(thread__deleted_at=None)

    def for_list(self) -> Self:
        """With all that an answer of an API says of a run in a list, in one query."""
        return self.select_related(
            "organization",
            "thread",
            "teammate",
            "teammate_version",
            "created_by",
            "end_user",
            "task",
            "prompt",
            "api_key",
        )

    def for_rows(self) -> Self:
        """What a row of a page shows and nothing else, in one query: another column of such a run
        costs a query of its own."""
        of_run = ("status", "channel", "created_at", "started_at", "finished_at", "next_retry_at")
        said = ("pause_reason", "error_message", "cost", "prompt__content")
        shown = self.select_related(
            "thread", "teammate", "teammate_version", "created_by", "end_user", "prompt"
        )
        return shown.select_related("api_key", "task").only(
            *of_run,
            *said,
            "started_by",
            "thread__id",
            "teammate__name",
            "teammate_version__number",
            "created_by__name",
            "created_by__username",
            "created_by__email",
            "end_user__external_id",
            "api_key__name",
            "task__name",
        )

    def for_detail(self) -> Self:
        """With what it said, who started it, and what tried it again."""
        again = self.model._default_manager.filter(retry_of=models.OuterRef("pk"))
        newest = again.order_by("-id")
        return (
            self.for_list()
            .select_related("answer", "route", "started_by__teammate")
            .annotate(
                retried_by_id=models.Subquery(newest.values("pk")[:1]),
                retried_at=models.Subquery(newest.values("created_at")[:1]),
            )
        )

    def ended_within(self, first: date, last: date) -> Self:
        """On a day from `first` to `last`, which are the organization's, as in sums of usage."""
        local = LocalDay(models.F("finished_at"), models.F("organization__timezone"))
        near = self.filter(  # through the index
            finished_at__gte=datetime.combine(first - timedelta(days=1), time(), UTC),
            finished_at__lt=datetime.combine(last + timedelta(days=2), time(), UTC),
        )
        return near.alias(local_day=local).filter(local_day__range=(first, last))

    def newest_first(self) -> Self:
        return self.order_by("-created_at", "-id")

    def older_than(self, run: "Run") -> Self:
        """The rest of a `newest_first` list behind `run`, found through its index."""
        return self.filter(created_at__lte=run.created_at).exclude(
            created_at=run.created_at, id__gte=run.pk
        )

    def needing_a_person(self) -> Self:
        return self.filter(status__in=[RunStatus.WAITING, RunStatus.PAUSED])

    def awaiting_reply(self) -> Self:
        return self.filter(NEEDS_SOMEBODY, archived_at=None)
