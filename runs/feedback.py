"""Reports about Muster itself, by teammates, people and programs, to those who run it."""

from django.utils import timezone

from runs.models import Report, Run
from teammates.access import Access
from teammates.errors import NotFound

NAMED_BY = 100  # characters of the message


def file_report(
    access: Access,
    message: str,
    *,
    title: str = "",
    severity: str = "medium",
    run: Run | None = None,
) -> Report:
    """File a report to the operators, perhaps about a run."""
    access.require("data.runs.write", *([run] if run is not None else []))
    return Report.objects.create(
        organization=access.organization,
        run=run,
        message=message,
        severity=severity,
        title=title or " ".join(message.split())[:NAMED_BY],
    )


def close_report(access: Access, report_id: int) -> Report:
    """Close a report; again is fine. Raises `NotFound`."""
    access.require("data.personas.manage")
    report = Report.objects.filter(organization=access.organization, pk=report_id).first()
    if report is None:
        raise NotFound("There is no such report.", code="reports.not_found")
    if report.closed_at is None:
        report.closed_at, report.closed_by = timezone.now(), access.user
        report.save(update_fields=["closed_at", "closed_by", "updated_at"])
    return report
