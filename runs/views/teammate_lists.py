"""Pages of all teammates, and of new ones."""

from django.contrib import messages
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from runs.models import Run
from runs.queries import activity
from runs.tasks import staffing
from runs.usage import totals
from runs.usage.periods import Span
from runs.views.teammates import DAYS, preview
from teammates.errors import DomainError, NotFound
from teammates.forms.roster import TeammateForm
from teammates.models import PermissionMode, Teammate, Visibility
from teammates.roster import editing
from teammates.roster.templates import CATALOG
from teammates.tools import GROUPS
from teammates.web.pages import PageRequest, add_refusal, page_of

PAGE_SIZE = 60
LAST_PLACE = 2**31 - 1  # of those that nobody put in order


# --- the list -----------------------------------------------------------------------------------


@require_GET
def teammate_list(request: PageRequest) -> HttpResponse:
    """Cards in the order that people gave them, with a week's work and a month's cost."""
    access = request.access
    query = request.GET
    shows_archived = "archived" in query
    rows = activity.with_last_active(Teammate.objects.visible_to(access).with_version())
    rows = rows.filter(archived_at__isnull=False) if shows_archived else rows.current()
    sought, mode = query.get("q", "").strip()[:200], query.get("mode", "")
    if sought:
        rows = rows.filter(Q(name__icontains=sought) | Q(version__role__icontains=sought))
    if mode in PermissionMode.values:
        rows = rows.filter(version__permission_mode=mode)
    rows = rows.annotate(place=Coalesce("display_order", LAST_PLACE))
    page = page_of(request, rows, "place", "id", size=PAGE_SIZE)
    shown = page.rows
    sums = totals.by_teammate(access, Span.last(DAYS, access.organization.zone), teammate__in=shown)
    runs = Run.objects.visible_to(access).filter(teammate__in=shown)
    busy = activity.busy_of(activity.under_way(runs))
    return render(
        request,
        "teammates/teammate_list.html",
        {
            "rows": [(one, sums.get(one.pk), busy.get(one.pk)) for one in shown],
            "page": page,
            "sought": sought,
            "mode": mode,
            "modes": PermissionMode.choices,
            "shows_archived": shows_archived,
            "is_filtered": bool(sought or mode),
            "templates": list(CATALOG.values())[:4],
        },
    )


@require_http_methods(["GET", "POST"])
def template_list(request: PageRequest) -> HttpResponse:
    """Ready-made teammates; choosing one makes it, with its tasks."""
    access = request.access
    if request.method == "POST":
        access.require("data.runs.write")
        template = CATALOG.get(request.POST.get("template", ""))
        if template is None:
            raise NotFound("There is no such template.")
        teammate = staffing.create_from_template(
            access, template, visibility=Visibility.ORGANIZATION
        )
        messages.success(request, f"{teammate.name} is ready. Look over its instructions next.")
        return redirect(f"{teammate.get_absolute_url()}?tab=setup")
    return render(request, "teammates/template_list.html", {"templates": CATALOG.values()})


@require_http_methods(["GET", "POST"])
def teammate_new(request: PageRequest) -> HttpResponse:
    access = request.access
    every = {"built_in": list(GROUPS)}
    form = TeammateForm(access.organization, request.POST or None, initial=every)
    if request.method == "POST" and form.is_valid():
        access.require("data.runs.write")
        try:
            teammate = editing.create_teammate(
                access,
                visibility=Visibility.ORGANIZATION,
                **form.changes(),
            )
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"{teammate.name} is ready.")
            return redirect(teammate)
    context = {"form": form, "preview": preview(access, form, None)}
    status = 422 if form.errors else 200
    return render(request, "teammates/teammate_new.html", context, status=status)
