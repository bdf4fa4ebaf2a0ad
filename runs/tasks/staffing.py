"""Teammates together with their tasks: made from a template, paused, archived, brought back."""

from typing import Any

from django.db import transaction

from runs.models import Task, Trigger, TriggerKind
from teammates.access import Access, take_over
from teammates.errors import Unsuitable
from teammates.integrations import app_catalog
from teammates.models import EndUser, Teammate, TeammateStatus, ToolServer
from teammates.roster import editing
from teammates.roster.lookup import refuse_archived, require_editor
from teammates.roster.templates import TeammateTemplate
from teammates.trust import audit


def create_from_template(
    access: Access,
    template: TeammateTemplate,
    *,
    end_user: EndUser | None = None,
    name: str | None = None,
    **fields: Any,
) -> Teammate:
    """A teammate as a template describes it, with its tasks. Raises `Unsuitable` if an app that it
    needs is not connected in the scope."""
    connected = ToolServer.objects.filter(organization=access.organization, end_user=end_user)
    missing = sorted(set(template.required_apps) - set(connected.values_list("slug", flat=True)))
    if missing:
        names = ", ".join(map(app_catalog.display_name, missing))
        raise Unsuitable(
            f"Connect {names} first: {template.name} works with it.",
            code="missing_integration",
            missing=missing,
        )
    with transaction.atomic():
        teammate = editing.create_teammate(
            access,
            end_user=end_user,
            name=name or template.name,
            template_slug=template.slug,
            **template.versioned,
            **fields,
        )
        for task in template.tasks:
            Task.objects.create(
                organization=access.organization,
                teammate=teammate,
                end_user=end_user,
                created_by=access.user,
                api_key=access.limited_key,
                name=task.name,
                instructions=task.instructions,
                expected_output=task.expected_output,
                template_task_slug=task.slug,
            )
    return teammate


@audit.recorded("agent.archive")
def archive_teammate(access: Access, teammate: Teammate) -> Teammate:
    """Take a teammate out of service; again is fine. Its runs stay."""
    require_editor(access, teammate)
    return _set_status(teammate, TeammateStatus.ARCHIVED)


@audit.recorded("agent.enable")
def set_enabled(access: Access, teammate: Teammate, *, enabled: bool) -> Teammate:
    """Pause a teammate, or let it work again. Raises `NotFound` if it is archived."""
    require_editor(access, teammate)
    refuse_archived(teammate)
    if not enabled:
        return _set_status(teammate, TeammateStatus.DISABLED)
    with transaction.atomic():
        take_over(access, editing.lock(teammate))
        return _set_status(teammate, TeammateStatus.ENABLED)


@audit.recorded("agent.restore")
def unarchive_teammate(access: Access, teammate: Teammate) -> Teammate:
    """Bring an archived teammate back, paused. Raises `Unsuitable` if it is not archived."""
    require_editor(access, teammate)
    if not teammate.is_archived:
        raise Unsuitable("This teammate is not archived.", code="not_archived")
    return _set_status(teammate, TeammateStatus.DISABLED)


def _set_status(teammate: Teammate, status: TeammateStatus) -> Teammate:
    with transaction.atomic():
        if editing.set_status(teammate, status):
            _switch_triggers(teammate, status)
    return teammate


def _switch_triggers(teammate: Teammate, status: TeammateStatus) -> None:
    """Switch off for good what starts the tasks of a teammate that stops: people switch it on
    again.

    Schedules of a paused one only rest (`Trigger.is_active`), and go on with it: from then on, for
    what was due meanwhile is past.
    """
    triggers = Trigger.objects.filter(task__teammate=teammate, task__is_ad_hoc=False)
    if status == TeammateStatus.ENABLED:
        triggers.filter(kind=TriggerKind.SCHEDULE).reschedule()
        return
    if status == TeammateStatus.DISABLED:
        triggers = triggers.exclude(kind=TriggerKind.SCHEDULE)
    triggers.update(enabled=False, hook_enabled=False)
