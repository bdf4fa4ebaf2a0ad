"""Models, their providers and prices."""

from collections.abc import AsyncIterator
from typing import Any

from django.contrib import messages
from django.db.models import Prefetch
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from teammates.access import Access
from teammates.errors import DomainError
from teammates.forms.models import KeyForm, ModelForm, ProviderForm
from teammates.integrations import checks
from teammates.llm import catalog
from teammates.llm.offers import list_offers
from teammates.models import Effort, Model, Provider
from teammates.providers import Connection
from teammates.providers.base import ProviderError
from teammates.providers.kinds import KINDS
from teammates.providers.local import find_servers
from teammates.providers.ollama import WORTH_PULLING
from teammates.public_http import check_url
from teammates.web.pages import PageRequest, add_refusal


@require_http_methods(["GET", "POST"])
def model_settings(request: PageRequest) -> HttpResponse:
    """Providers with their models and prices, and what they cost."""
    access = request.access
    form = ProviderForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            provider = catalog.connect(access, **given)
        except DomainError as error:
            add_refusal(form, error)
        else:
            _say_connected(request, provider)
            return redirect("teammates:model_settings")
    return _settings_page(request, form)


def _say_connected(request: PageRequest, provider: Provider) -> None:
    """An address is tried at once; what costs money waits for a click."""
    model = provider.models.order_by("id").first()
    if not provider.needs_key and model is not None:
        checks.ask_model(request.access, model)
        messages.success(request, f"{provider.name} is saved; {model.alias} is being asked.")
    else:
        messages.success(request, f"{provider.name} is connected. Test its model next.")


def _settings_page(request: PageRequest, form: ProviderForm, **more: Any) -> HttpResponse:
    organization = request.access.organization
    context = {
        "form": form,
        "providers": Provider.objects.filter(organization=organization)
        .prefetch_related(Prefetch("models", Model.objects.order_by("id")), "models__prices")
        .order_by("id"),
        "models": Model.objects.filter(organization=organization).order_by("alias"),
        "efforts": Effort.choices,
        "may_manage": request.access.may("data.llm_credentials.manage"),
        **more,
    }
    status = 422 if form.errors else 200
    return render(request, "settings/model_settings.html", context, status=status)


@require_POST
def provider_key(request: PageRequest, provider_id: int) -> HttpResponse:
    provider = _provider(request.access, provider_id)
    form = KeyForm(request.POST)
    if form.is_valid():
        catalog.update_provider(request.access, provider, api_key=form.cleaned_data["api_key"])
        messages.success(request, f"The key of {provider.name} is stored. Test a model next.")
    else:
        messages.error(request, "Enter the key first.")
    return redirect("teammates:model_settings")


@require_POST
def provider_address(request: PageRequest, provider_id: int) -> HttpResponse:
    provider = _provider(request.access, provider_id)
    address = request.POST.get("base_url", "")
    catalog.update_provider(request.access, provider, base_url=address)
    _say_connected(request, provider)
    return redirect("teammates:model_settings")


@require_http_methods(["GET", "POST"])
def model_test(request: PageRequest, model_id: int) -> HttpResponse:
    """POST: have one small call made. GET, for the page: what came of it, or that it is under
    way."""
    request.access.require("data.llm_credentials.manage")
    model = get_object_or_404(Model, organization=request.access.organization, pk=model_id)
    if request.method == "POST":
        checks.ask_model(request.access, model)
    if request.headers.get("HX-Request"):
        return render(request, "settings/_model_test.html", {"model": model})
    return redirect("teammates:model_settings")


@require_POST
def model_default(request: PageRequest, model_id: int) -> HttpResponse:
    model = get_object_or_404(Model, organization=request.access.organization, pk=model_id)
    catalog.set_default_model(request.access, model)
    messages.success(request, f"{model.alias} is used wherever no model is named.")
    return redirect("teammates:model_settings")


def _provider(access: Access, provider_id: int) -> Provider:
    return get_object_or_404(Provider, organization=access.organization, pk=provider_id)


@require_GET
def local_servers(request: PageRequest) -> HttpResponseBase:
    """Model servers that answer on this machine, with a button to connect each."""
    access = request.access
    access.require("data.llm_credentials.manage")
    if not access.organization.is_home:  # private addresses are for the machine's own
        return HttpResponse("")
    connected = set(
        Provider.objects.filter(organization=access.organization).values_list("base_url", flat=True)
    )
    token = get_token(request)

    async def answer() -> AsyncIterator[str]:  # on the event loop: no thread waits for servers
        found = [one for one in await find_servers() if one.base_url not in connected]
        context = {"found": found, "to_pull": WORTH_PULLING, "csrf_token": token}
        yield render_to_string("settings/_local_servers.html", context)

    return StreamingHttpResponse(answer())


@require_POST
def model_new(request: PageRequest, provider_id: int) -> HttpResponse:
    """One more model of a provider."""
    name = request.POST.get("name", "").strip()
    provider = _provider(request.access, provider_id)
    model = catalog.add_model(
        request.access, provider, alias=request.POST.get("alias", "").strip() or name, name=name
    )
    if not provider.needs_key:
        checks.ask_model(request.access, model)
    price = model.price_now()
    then = f"Its prices are those of {price.source}." if price else "Set its price: none is known."
    tested = "Test it next." if provider.needs_key else "It is being asked."
    messages.success(request, f"{model.alias} is offered. {then} {tested}")
    return redirect("teammates:model_settings")


@require_GET
def model_names(request: PageRequest, provider_id: int) -> HttpResponseBase:
    """What the provider lists, for the field in which one of its models is named."""
    request.access.require("data.llm_credentials.manage")
    provider = _provider(request.access, provider_id)
    offered = set(provider.models.values_list("name", flat=True))
    return listed_names(provider.connection, offered, provider.name, f"n-{provider.pk}")


@require_POST
def provider_names(request: PageRequest) -> HttpResponseBase:
    """The same for a provider that is not connected yet, once the form says enough of it."""
    request.access.require("data.llm_credentials.manage")
    given = {name: request.POST.get(name, "").strip() for name in ("kind", "base_url", "api_key")}
    kind = KINDS.get(given["kind"])
    provider = Provider(organization=request.access.organization, **given)
    if kind is None or not provider.is_ready or not provider.connection.address:
        return HttpResponse("")
    if provider.base_url:
        check_url(provider.base_url, may_be_private=provider.connection.may_be_private)
    return listed_names(provider.connection, set(), kind.label, "id_model")


def listed_names(
    connection: Connection,
    offered: set[str],
    label: str,
    field_id: str,
    *,
    embeddings: bool = False,
) -> StreamingHttpResponse:
    """A list of what a provider has that is not `offered` yet, once it says so, to choose from for
    a field; `embeddings`: of what makes vectors."""

    async def answer() -> AsyncIterator[str]:  # on the event loop: no thread waits for providers
        try:
            offers = await list_offers(connection, embeddings=embeddings)
        except ProviderError as error:
            yield render_to_string("settings/_model_names.html", {"error": error})
            return
        context = {
            "label": label,
            "field_id": field_id,
            "offers": [one for one in offers if one.name not in offered],
            "has_more": bool(offered),
        }
        yield render_to_string("settings/_model_names.html", context)

    return StreamingHttpResponse(answer())


@require_POST
def provider_delete(request: PageRequest, provider_id: int) -> HttpResponse:
    provider = _provider(request.access, provider_id)
    catalog.delete_provider(request.access, provider)
    messages.success(request, f"{provider.name} is gone, with its models. Past runs keep theirs.")
    return redirect("teammates:model_settings")


@require_POST
def model_limits(request: PageRequest, model_id: int) -> HttpResponse:
    """Who answers when a model cannot, how much effort it takes, and how much it can read."""
    access = request.access
    model = get_object_or_404(Model, organization=access.organization, pk=model_id)
    form = ModelForm(access.organization, request.POST)
    if form.is_valid():
        catalog.update_model(access, model, **form.cleaned_data)
        messages.success(request, f"{model.alias} is saved.")
    else:
        messages.error(
            request, "; ".join(str(e) for errors in form.errors.values() for e in errors)
        )
    return redirect("teammates:model_settings")
