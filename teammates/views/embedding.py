"""Search by meaning: its model is chosen here, and how far it is is shown."""

from django.contrib import messages
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from teammates.access import Access
from teammates.errors import DomainError
from teammates.forms.knowledge import EmbeddingForm
from teammates.knowledge import embedding
from teammates.llm import catalog
from teammates.types import JSON
from teammates.views.models import listed_names
from teammates.web.pages import PageRequest, add_refusal, number_of


@require_http_methods(["GET", "POST"])
def embedding_settings(request: PageRequest) -> HttpResponse:
    """GET, for the page: how far the vectors are. POST: choose a model, try it again, or turn
    search by meaning off."""
    access = request.access
    providers = catalog.providers_with_embeddings(access)
    model = embedding.of_organization(access.organization)
    now = {"provider": model.provider, "name": model.name} if model else None
    form = EmbeddingForm(providers, request.POST or None, initial=now)
    if "off" in request.POST:
        if model is not None:
            embedding.turn_off(access, model)
        messages.success(request, "Documents are searched by their words alone.")
        return redirect("teammates:document_list")
    if "again" in request.POST and model is not None:
        embedding.choose(access, model.provider, model.name)
        return redirect("teammates:document_list")
    if request.method == "POST" and form.is_valid():
        try:
            model = embedding.choose(access, **form.cleaned_data)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"Passages are being read by {model}.")
            return redirect("teammates:document_list")
    context = embedding_context(access)
    if request.headers.get("HX-Request"):
        return render(request, "settings/_embedding.html", context)
    context |= {"embedding_form": form, "has_providers": providers.exists()}
    return render(request, "settings/embedding.html", context, status=422 if form.errors else 200)


def embedding_context(access: Access) -> JSON:
    """What `_embedding.html` shows."""
    model = embedding.of_organization(access.organization)
    done, count = embedding.progress(model) if model else (0, 0)
    return {
        "embedding": model,
        "done": done,
        "count": count,
        "cost": embedding.cost_of(model) if model else None,
        "may_choose_embedding": access.may("data.llm_credentials.manage"),
    }


@require_GET
def embedding_names(request: PageRequest) -> HttpResponseBase:
    """What the chosen provider lists, for the field in which its model is named."""
    request.access.require("data.llm_credentials.manage")
    chosen = number_of(request.GET.get("provider", "")) or 0
    provider = catalog.providers_with_embeddings(request.access).filter(pk=chosen).first()
    if provider is None:
        return HttpResponse("")
    return listed_names(provider.connection, set(), provider.name, "id_name", embeddings=True)
