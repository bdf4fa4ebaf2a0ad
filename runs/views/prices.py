"""What a model costs: from now on, or since a day, with what that changes shown first."""

from datetime import date

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from runs.budgets import repricing
from teammates.errors import Invalid
from teammates.llm import catalog
from teammates.models import Model
from teammates.templatetags.muster import money
from teammates.web.pages import PageRequest


@require_POST
def model_price(request: PageRequest, model_id: int) -> HttpResponse:
    """With `since`, what would change is shown; with `confirmed` as well, it is changed."""
    access, form = request.access, request.POST
    model = get_object_or_404(Model, organization=access.organization, pk=model_id)
    lanes = {lane: form.get(lane, "").strip() or "0" for lane in catalog.LANES}
    if not form.get("since"):
        catalog.set_price(access, model, **lanes)
        messages.success(request, f"The price of {model.alias} holds from now on.")
        return redirect("teammates:model_settings")
    since = _day(form["since"])
    if not form.get("confirmed"):
        changes = repricing.preview(access, model, since, **lanes)
        context = {"model": model, "lanes": lanes, "since": since, "changes": changes}
        return render(request, "settings/price_correction.html", context)
    changed = repricing.correct_price(access, model, since, **lanes)
    messages.success(
        request,
        f"The price of {model.alias} holds since {since:%-d %b %Y}: {changed.calls} calls that had "
        f"cost {money(changed.before)} are booked with {money(changed.after)}.",
    )
    return redirect("teammates:model_settings")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Invalid("since must be a day, as 2026-11-30.") from None
