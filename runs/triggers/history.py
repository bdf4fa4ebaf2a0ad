"""What happened to triggers, looked up."""

from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from runs.models import (
    ACTIVE,
    Firing,
    FiringStatus,
    Run,
    Task,
)
from runs.triggers.targets import TriggerEvent, TriggerTarget
from teammates.access import Access
from teammates.fields import bounded_key


def came_often(firings: "QuerySet[Firing]", most: int, span: timedelta) -> bool:
    """Whether there were `most` within the last `span`."""
    lately = firings.filter(created_at__gt=timezone.now() - span)
    return lately[:most].count() >= most


def find_event(target: TriggerTarget, event: TriggerEvent) -> Firing | None:
    """The firing that an event with this id came to before."""
    if not event.event_id:
        return None
    known = target.firings.filter(kind=event.kind, event_id=bounded_key(event.event_id))
    return known.exclude(status=FiringStatus.SKIPPED).select_related("run").first()


def active_runs(task: Task) -> "QuerySet[Run]":
    """What of a task is still under way."""
    return Run.objects.filter(task=task, status__in=ACTIVE)


def firings_seen(access: Access) -> "QuerySet[Firing]":
    """The firings that the asker sees: of their tasks and teammates; of all, for admins."""
    rows = Firing.objects.filter(organization=access.organization)
    if access.end_user is not None or not access.is_admin:
        of_tasks = rows.filter(task__in=Task.objects.visible_to(access))
        rows = of_tasks | rows.filter(task=None, teammate__created_by=access.user)
    return rows.select_related("task", "teammate", "run", "trigger")
