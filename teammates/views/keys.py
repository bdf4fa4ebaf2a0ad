"""API keys: listed, made, replaced, revoked. A secret is on the page that made it, and nowhere
else."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from teammates.errors import DomainError
from teammates.forms.people import NewKeyForm
from teammates.models import APIKey
from teammates.people import api_keys
from teammates.web.pages import PageRequest, add_refusal, page_of

PAGE_SIZE = 100


@require_GET
def key_list(request: PageRequest) -> HttpResponse:
    return _page(request, NewKeyForm())


def _page(request: PageRequest, form: NewKeyForm, **more: Any) -> HttpResponse:
    access = request.access
    may_manage = access.may("data.api_keys.manage")
    seen = api_keys.visible_keys(access) if may_manage else APIKey.objects.none()
    working = seen.filter(revoked_at=None)
    page = page_of(request, working, "-id", size=PAGE_SIZE)
    context = {
        "form": form,
        "keys": page.rows,
        "page": page,
        "may_manage": may_manage,
        **more,
    }
    status = 422 if form.errors else 200
    return render(request, "settings/key_list.html", context, status=status)


@require_POST
def key_new(request: PageRequest) -> HttpResponse:
    access = request.access
    form = NewKeyForm(request.POST)
    if not form.is_valid():
        return _page(request, form)
    try:
        key, secret = api_keys.create_key(
            access,
            name=form.cleaned_data["name"],
            scopes=form.cleaned_data["scopes"],
            expires_in_days=form.cleaned_data["expires_in_days"],
        )
    except DomainError as error:
        add_refusal(form, error)
        return _page(request, form)
    return _page(request, NewKeyForm(), made=key, secret=secret)


@require_POST
def key_rotate(request: PageRequest, key_id: int) -> HttpResponse:
    """A new secret for a key; the old one stops working at once."""
    key, secret = api_keys.rotate_key(request.access, _find(request, key_id))
    return _page(request, NewKeyForm(), made=key, secret=secret)


@require_POST
def key_revoke(request: PageRequest, key_id: int) -> HttpResponse:
    key = api_keys.revoke_key(request.access, _find(request, key_id))
    messages.success(request, f"The key {key.name} no longer works.")
    return redirect("teammates:key_list")


def _find(request: PageRequest, key_id: int) -> APIKey:
    return api_keys.get_key(request.access, pk=key_id)
