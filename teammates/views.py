"""Pages: set-up, sign-in, teammates, models and keys."""

from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.contrib.auth import login, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST

from teammates import accounts, connections, keys, roster
from teammates.access import Access
from teammates.errors import DomainError, NotSignedIn
from teammates.forms import KeyForm, ProviderForm, SetupForm, SignInForm, TeammateForm
from teammates.models import Model, Provider, Teammate
from teammates.pages import PageRequest, public
from teammates.providers import try_out


@public
@require_http_methods(["GET", "POST"])
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """Claim the installation with the one-time link."""
    if accounts.organization_of_setup_token(token) is None:
        messages.error(request, "This set-up link was used already. Sign in instead.")
        return redirect("teammates:sign_in")
    form = SetupForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            user = accounts.set_up_owner(token=token, **form.cleaned_data)
        except DomainError as error:
            form.add_error(None, error.message)
        else:
            login(request, user, backend="django.contrib.auth.backends.ModelBackend")
            return redirect("runs:home")
    status = 422 if form.errors else 200
    return render(request, "teammates/setup.html", {"form": form}, status=status)


@public
@require_http_methods(["GET", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    form = SignInForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            access = accounts.sign_in(
                login=form.cleaned_data["email"], password=form.cleaned_data["password"]
            )
        except NotSignedIn as error:
            form.add_error(None, error.message)
        else:
            assert access.user is not None
            login(request, access.user, backend="django.contrib.auth.backends.ModelBackend")
            target = request.GET.get("next", "")
            is_ours = url_has_allowed_host_and_scheme(target, {request.get_host()})
            return redirect(target if is_ours else "runs:home")
    status = 422 if form.errors else 200
    return render(request, "teammates/sign_in.html", {"form": form}, status=status)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("teammates:sign_in")


# --- teammates ----------------------------------------------------------------------------------


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
    form = TeammateForm(access.organization, request.POST or None)
    if request.method == "POST" and form.is_valid():
        access.require("data.runs.write")
        try:
            teammate = roster.create_teammate(
                access.organization, by=access.user, **form.cleaned_data
            )
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
    now = {name: getattr(version, name, "") for name in TeammateForm.base_fields}
    form = TeammateForm(access.organization, request.POST or None, initial=now | {"name": teammate})
    if request.method == "POST" and form.is_valid():
        try:
            changed = roster.update_teammate(teammate, by=access.user, **form.cleaned_data)
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


# --- models and keys ----------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
def model_settings(request: PageRequest) -> HttpResponse:
    """Providers with their models and prices, and the organization's API keys."""
    access = request.access
    form = ProviderForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            provider = connections.connect(access, **given)
        except DomainError as error:
            form.add_error(None, error.message)
        else:
            messages.success(request, f"{provider.name} is connected. Test its model next.")
            return redirect("teammates:model_settings")
    return _settings_page(request, form)


def _settings_page(request: PageRequest, form: ProviderForm, **more: Any) -> HttpResponse:
    organization = request.access.organization
    context = {
        "form": form,
        "providers": Provider.objects.filter(organization=organization)
        .prefetch_related("models__prices")
        .order_by("id"),
        "keys": keys.visible_keys(request.access).filter(revoked_at=None)[:100],
        "may_manage": request.access.may("data.llm_credentials.manage"),
        **more,
    }
    status = 422 if form.errors else 200
    return render(request, "teammates/model_settings.html", context, status=status)


@require_POST
def provider_key(request: PageRequest, provider_id: int) -> HttpResponse:
    provider = _provider(request.access, provider_id)
    form = KeyForm(request.POST)
    if form.is_valid():
        connections.update_provider(request.access, provider, api_key=form.cleaned_data["api_key"])
        messages.success(request, f"The key of {provider.name} is stored. Test a model next.")
    else:
        messages.error(request, "Enter the key first.")
    return redirect("teammates:model_settings")


@require_POST
def model_test(request: PageRequest, model_id: int) -> HttpResponse:
    """Make one small call and say what came of it."""
    request.access.require("data.llm_credentials.manage")
    model = get_object_or_404(
        Model.objects.select_related("provider__organization"),
        organization=request.access.organization, pk=model_id,
    )  # fmt: skip
    tested = async_to_sync(try_out)(model.provider.connection, model.name)
    if tested.error:
        messages.error(request, f"{model.alias}: {tested.error}")
    else:
        messages.success(
            request, f"{model.alias} answered in {tested.milliseconds} ms: “{tested.text}”"
        )
    return redirect("teammates:model_settings")


@require_POST
def model_default(request: PageRequest, model_id: int) -> HttpResponse:
    model = get_object_or_404(Model, organization=request.access.organization, pk=model_id)
    connections.set_default_model(request.access, model)
    messages.success(request, f"{model.alias} is used wherever no model is named.")
    return redirect("teammates:model_settings")


@require_POST
def key_new(request: PageRequest) -> HttpResponse:
    """A new key; its secret is on this page and nowhere else."""
    access = request.access
    access.require("data.api_keys.manage")
    name = request.POST.get("name", "").strip() or "Key"
    _, secret = keys.create_key(access.organization, name=name, by=access.user)
    return _settings_page(request, ProviderForm(), secret=secret)


@require_POST
def key_revoke(request: PageRequest, key_id: int) -> HttpResponse:
    request.access.require("data.api_keys.manage")
    key = keys.revoke_key(keys.get_key(request.access, pk=key_id))
    messages.success(request, f"The key {key.name} no longer works.")
    return redirect("teammates:model_settings")


def _provider(access: Access, provider_id: int) -> Provider:
    return get_object_or_404(Provider, organization=access.organization, pk=provider_id)
