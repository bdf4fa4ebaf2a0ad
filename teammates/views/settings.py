"""What concerns the whole organization, and how Muster looks for one person."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from teammates.errors import DomainError
from teammates.forms.people import OrganizationForm
from teammates.models import Organization
from teammates.people import organizations
from teammates.web.pages import PageRequest, add_refusal

YEAR = 365 * 24 * 3600  # seconds
# What a person chooses for one browser; the frame of every page reads the cookies.
CHOICES = {
    "theme": ("auto", "light", "dark"),
    "side": ("wide", "narrow"),
    "keys": ("on", "off"),
}


@require_http_methods(["GET", "POST"])
def general(request: PageRequest) -> HttpResponse:
    """Name, timezone, what is mailed, what is kept, and what end users may do."""
    access = request.access
    may_manage = access.may("org.settings.manage")
    # A row of its own: the form writes into it, also what is refused.
    stored = Organization.objects.get(pk=access.organization.pk)
    form = OrganizationForm(request.POST or None, instance=stored)
    if request.method == "POST":
        access.require("org.settings.manage")
        if form.is_valid():
            try:
                organizations.update_settings(access, **form.cleaned_data)
            except DomainError as error:
                add_refusal(form, error)
            else:
                messages.success(request, "Saved.")
                return redirect("teammates:settings")
    context = {"form": form, "may_manage": may_manage}
    return render(request, "settings/settings.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
def appearance(request: PageRequest) -> HttpResponse:
    """Theme, side and keys, kept in this browser."""
    if request.method == "GET":
        return render(request, "settings/appearance.html")
    response = redirect(request.headers.get("Referer") or "teammates:appearance")
    for name, values in CHOICES.items():
        if (value := request.POST.get(name)) in values:
            response.set_cookie(name, str(value), max_age=YEAR, samesite="Lax")
    return response
