"""Budgets: how much of each is spent, set and changed."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from runs.budgets import credits, definitions, report
from runs.models import CREDITS_PER_DOLLAR, Budget
from runs.views.forms.budgets import ACTIONS, BudgetChangeForm, BudgetForm
from runs.views.run_links import list_url
from teammates.errors import DomainError
from teammates.web.pages import PageRequest, add_refusal


@require_http_methods(["GET", "POST"])
def budget_list(request: PageRequest) -> HttpResponse:
    """The budgets with a bar each; a new one is set here, also `for` a thread or a run."""
    access = request.access
    form = BudgetForm(access, request.POST or None, about=request.GET.get("for", ""))
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        whose = given.pop("whose")
        try:
            budget = definitions.set_budget(access, **given, **whose)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"A budget is set: {budget}.")
            return redirect("runs:budget_list")
    context = {
        "uses": [(use, _runs_of(use.budget)) for use in report.uses(access)],
        "credits": credits.balance_of(access.organization),
        "per_dollar": CREDITS_PER_DOLLAR,
        "form": form,
        "actions": ACTIONS.items(),
        "may_manage": access.may("data.budgets.manage"),
    }
    status = 422 if form.errors else 200
    return render(request, "settings/budget_list.html", context, status=status)


def _runs_of(budget: Budget) -> str:
    """The runs that spent what counts against it in this day, week or month, or in all."""
    if budget.run is not None:
        return budget.run.get_absolute_url()
    return list_url([("budget", str(budget.pk))])


@require_POST
def budget_change(request: PageRequest, budget_id: int) -> HttpResponse:
    budget = definitions.get_budget(request.access, budget_id)
    form = BudgetChangeForm(request.POST)
    if form.is_valid():
        definitions.change_budget(request.access, budget, **form.cleaned_data)
        messages.success(request, f"Saved: {budget}. What waits at it is asked again.")
    else:
        messages.error(
            request, "; ".join(str(one) for errors in form.errors.values() for one in errors)
        )
    return redirect("runs:budget_list")


@require_POST
def budget_delete(request: PageRequest, budget_id: int) -> HttpResponse:
    budget = definitions.get_budget(request.access, budget_id)
    definitions.delete_budget(request.access, budget)
    messages.success(request, "The budget is deleted. What waited at it goes on.")
    return redirect("runs:budget_list")
