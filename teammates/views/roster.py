"""Teammates: the list, one of them, and the form."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from teammates import roster
from teammates.errors import DomainError
from teammates.forms.roster import TeammateForm
from teammates.models import Teammate, Visibility
from teammates.pages import PageRequest
from teammates.tools import GROUPS


def teammate_list(request: PageRequest) -> HttpResponse:
    show_archived = "archived" in request.GET
    teammates = Teammate.objects.visible_to(request.access).with_version()
    if not show_archived:
        teammates = teammates.current()
    return render(request, "teammates/teammate_list.html", {
        "teammates": teammates.order_by("id")[:200], "show_archived": show_archived,
    })  # fmt: skip


@require_http_methods(["GET", "POST"])
def teammate_new(request: PageRequest) -> HttpResponse:
    access = request.access
    every = {"built_in": list(GROUPS)}
    form = TeammateForm(access.organization, request.POST or None, initial=every)
    if request.method == "POST" and form.is_valid():
        access.require("data.runs.write")
        try:
            teammate = roster.create_teammate(
                access.organization, by=access.user, visibility=Visibility.ORGANIZATION,
                **form.changes(),
            )  # fmt: skip
        except DomainError as error:
            form.add_error(None, error.message)
        else:
            messages.success(request, f"{teammate.name} is ready.")
            return redirect(teammate)
    return _teammate_form(request, form, None)


@require_http_methods(["GET", "POST"])
def teammate_edit(request: PageRequest, teammate_id: int) -> HttpResponse:
    """A change of what a teammate is told becomes its next version."""
    access = request.access
    teammate = roster.get_teammate(access, teammate_id)
    roster.require_editor(access, teammate)
    version = teammate.current_version
    now = TeammateForm.now(version)
    form = TeammateForm(access.organization, request.POST or None, initial=now | {"name": teammate})
    if request.method == "POST" and form.is_valid():
        try:
            changed = roster.update_teammate(teammate, by=access.user, **form.changes(version))
        except DomainError as error:
            form.add_error(None, error.message)
        else:
            messages.success(
                request, f"Saved. {changed.name} is at v{changed.current_version.number}."
            )
            return redirect(teammate)
    return _teammate_form(request, form, teammate)


def _teammate_form(
    request: PageRequest, form: TeammateForm, teammate: Teammate | None
) -> HttpResponse:
    context = {"form": form, "teammate": teammate}
    status = 422 if form.errors else 200
    return render(request, "teammates/teammate_form.html", context, status=status)


def teammate_detail(request: PageRequest, teammate_id: int) -> HttpResponse:
    teammate = roster.get_teammate(request.access, teammate_id)
    recent = teammate.runs.with_names().newest_first()
    if not request.access.is_admin:
        recent = recent.filter(created_by=request.access.user)
    return render(request, "teammates/teammate_detail.html", {
        "teammate": teammate,
        "version": teammate.current_version,
        "versions": teammate.versions.select_related("created_by").order_by("-number")[:50],
        "runs": recent[:10],
    })  # fmt: skip


@require_POST
def teammate_archive(request: PageRequest, teammate_id: int) -> HttpResponse:
    teammate = roster.get_teammate(request.access, teammate_id)
    roster.require_editor(request.access, teammate)
    roster.archive_teammate(teammate)
    messages.success(request, f"{teammate.name} is archived. Its threads and runs stay.")
    return redirect("teammates:teammate_list")
