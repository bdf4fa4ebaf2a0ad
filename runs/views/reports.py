"""What teammates report, and what they tell their people."""

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from runs import feedback
from runs.models import Notice, Report
from teammates.web.pages import PageRequest, page_of

PAGE_SIZE = 30


@require_GET
def report_list(request: PageRequest) -> HttpResponse:
    """Reports of `report_issue`, newest first; for those who manage teammates."""
    access = request.access
    access.require("data.personas.manage")
    show_closed = "closed" in request.GET
    found = Report.objects.filter(
        organization=access.organization, closed_at__isnull=not show_closed
    ).select_related("run__teammate", "run__prompt", "run__task", "closed_by")
    page = page_of(request, found, "-id", size=PAGE_SIZE)
    return render(
        request,
        "settings/report_list.html",
        {
            "reports": page.rows,
            "page": page,
            "show_closed": show_closed,
            "may_manage": True,
        },
    )


@require_POST
def report_close(request: PageRequest, report_id: int) -> HttpResponse:
    feedback.close_report(request.access, report_id)
    return redirect("runs:report_list")


@require_POST
def notice_dismiss(request: PageRequest, notice_id: int) -> HttpResponse:
    notice = get_object_or_404(Notice, user=request.access.user, pk=notice_id)
    notice.dismissed_at = timezone.now()
    notice.save(update_fields=["dismissed_at", "updated_at"])
    return redirect("runs:home")
