"""v2: budgets. Muster's own: the contract has none."""

from decimal import Decimal
from typing import Any

from ninja import Router, Status

from runs.budgets import definitions, report
from runs.budgets.report import BudgetUse
from runs.models import Budget, Run, Task
from teammates.access import Access
from teammates.api.schemas import ApiRequest, Input, iso, money, whole
from teammates.errors import Invalid, NotFound
from teammates.models import APIKey, EndUser, Teammate, User
from teammates.types import JSON
from threads.models import Thread

router = Router(tags=["budgets"])
_MODELS: dict[str, Any] = {
    "teammate": Teammate,
    "task": Task,
    "member": User,
    "api_key": APIKey,
    "thread": Thread,
    "run": Run,
}


class BudgetIn(Input):
    """`amount_usd` may be a text, so that nothing is rounded. The ids and `user_id` (an end user's)
    say whose runs count: those that fit all of them; none: all of the organization's."""

    amount_usd: Decimal
    period: str
    action: str = "pause"
    teammate_id: int | None = None
    task_id: int | None = None
    member_id: int | None = None
    api_key_id: int | None = None
    thread_id: int | None = None
    run_id: int | None = None
    user_id: str | None = None


class BudgetChange(Input):
    amount_usd: Decimal | None = None
    action: str | None = None


@router.get("/budgets")
def list_budgets(request: ApiRequest) -> JSON:
    """All of them, with what is spent and reserved now."""
    return whole([budget_out(use) for use in report.uses(request.auth, looks_back=False)])


@router.post("/budgets", response={201: JSON})
def create_budget(request: ApiRequest, payload: BudgetIn) -> Status[JSON]:
    """Cap what runs may spend; `period` is run, day, week, month or total, `action` tell, pause or
    stop."""
    access = request.auth
    access.require("data.budgets.manage")
    whose = {name: _row(name, getattr(payload, f"{name}_id")) for name in _MODELS}
    whose["end_user"] = _end_user(access, payload.user_id)
    budget = definitions.set_budget(
        access, amount=payload.amount_usd, period=payload.period, action=payload.action, **whose
    )
    return Status(201, _with_use(access, budget))


@router.get("/budgets/{budget_id}")
def get_budget(request: ApiRequest, budget_id: int) -> JSON:
    return _with_use(request.auth, definitions.get_budget(request.auth, budget_id))


@router.patch("/budgets/{budget_id}")
def update_budget(request: ApiRequest, budget_id: int, payload: BudgetChange) -> JSON:
    """Raise or lower it, or say what happens at it; runs that wait at it are judged anew."""
    access = request.auth
    budget = definitions.get_budget(access, budget_id)
    definitions.change_budget(access, budget, amount=payload.amount_usd, action=payload.action)
    return _with_use(access, budget)


@router.delete("/budgets/{budget_id}", response={204: None})
def delete_budget(request: ApiRequest, budget_id: int) -> Status[None]:
    access = request.auth
    definitions.delete_budget(access, definitions.get_budget(access, budget_id))
    return Status(204, None)


def _row(name: str, key: int | None) -> Any:
    """The row of an id; whose it is, the verb says. Raises `NotFound`."""
    if key is None:
        return None
    found = _MODELS[name].objects.filter(pk=key).first()
    if found is None:
        raise NotFound(f"There is no such {name.replace('_', ' ')}.")
    return found


def _end_user(access: Access, external_id: str | None) -> EndUser | None:
    if external_id is None:
        return None
    end_user = access.for_end_user(external_id).end_user
    if end_user is None or end_user.pk is None:
        raise Invalid("user_id: there is no such end user.")
    return end_user


def _with_use(access: Access, budget: Budget) -> JSON:
    uses = report.uses(access, looks_back=False)
    return next(budget_out(use) for use in uses if use.budget == budget)


def budget_out(use: BudgetUse) -> JSON:
    budget = use.budget
    return {
        "id": budget.pk,
        "amount_usd": money(budget.amount),
        "period": budget.period,
        "action": budget.action,
        **{f"{name}_id": getattr(budget, f"{name}_id") for name in _MODELS},
        "user_id": budget.end_user.external_id if budget.end_user else None,
        "spent_usd": None if use.is_per_run else money(use.used),
        "reserved_usd": None if use.is_per_run else money(use.reserved),
        "created_at": iso(budget.created_at),
        "updated_at": iso(budget.updated_at),
    }
