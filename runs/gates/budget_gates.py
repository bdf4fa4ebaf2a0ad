"""A run stops at a budget, and a person says how it goes on."""

from decimal import ROUND_UP, Decimal

from django.urls import reverse

from runs.budgets import definitions
from runs.budgets.reserving import Breach
from runs.gates import brakes
from runs.models import CREDITS_PER_DOLLAR, Budget, BudgetPeriod, Gate, GateKind, Run
from runs.notifications import notices
from teammates.access import PERMISSIONS, Access
from teammates.errors import Invalid
from teammates.models import Membership, Model, Role
from teammates.types import JSON

SUMMARY_TOKENS = 1_500  # that a run may write which is to finish
AGAIN = "The budget allows it again"
# A word, or an option as the card has it.
_WORDS = (
    r"((?P<raise>raise( the budget to)?)|allow( this run)?|approve|yes)"
    r"( \$?(?P<dollars>[\d,]*\.?\d+)( more)?)?"
)
FORMS = (
    "Answer 'allow' or 'allow 5' (dollars more for this run), 'raise 50' (the budget, in dollars), "
    "'finish' (with a summary), or 'stop'."
)


def ask_locked(run: Run, breach: Breach, summary: Decimal) -> None:
    """Stop a run at a budget; `summary` is what a last answer may cost in dollars. It goes on by
    itself once the budget begins anew. The caller holds the run's row and the budget."""
    assert breach.worst is not None
    more = _round_up(max(breach.worst * 2, breach.amount if breach.period == "run" else Decimal(0)))
    raised = _round_up(max(breach.amount * 2, breach.used + breach.worst))
    raised, more = (min(one, definitions.LARGEST) for one in (raised, more))
    budget = Budget.objects.select_related(*definitions.COLUMNS).get(pk=breach.budget_id)
    gate = brakes.stop_and_ask(
        run,
        GateKind.BUDGET,
        header="Budget",
        prompt=_sentence(breach),
        question=f"{_sentence(breach)} The next call may cost up to {dollars(breach.worst)}. How "
        "does it go on?",
        options={
            f"Allow this run {dollars(more)} more": "Beyond every budget that asks.",
            f"Raise the budget to {dollars(raised)}": f"From now on, for {budget.whose}.",
            brakes.FINISH: f"At most {dollars(summary)} more.",
            brakes.STOP: "It ends as it is.",
        },
        again_at=breach.again_at,
        why=f"The budget for {budget.whose}",
        budget_id=breach.budget_id,
        more=str(more),
        raised=str(raised),
        summary=str(summary),
    )
    if gate is not None:
        _tell_managers(run, gate)


def _tell_managers(run: Run, gate: Gate) -> None:
    """Those who may let the run spend more, where whoever started it may not."""
    managers = Membership.objects.filter(
        organization=run.organization_id,
        user=run.created_by_id,
        role__in=[role for role in Role if "data.budgets.manage" in PERMISSIONS[role]],
    )
    if not managers.exists():
        path = f"{reverse('runs:needs_you')}?gate={gate.uid}"
        notices.tell_of_trouble(run, role=Role.ADMIN, title=gate.prompt, text=FORMS, path=path)


def why_it_stops(breach: Breach, route: Model) -> str:
    """What a run says that ends at a budget."""
    if breach.worst is None:
        return (
            f"{route.alias} has no price, so that nobody can tell what it costs, and a budget "
            "holds for this run. Set its price in Models & prices, or use another model."
        )
    if breach.period == BudgetPeriod.CREDITS:
        left, wanted = (
            int(dollars * CREDITS_PER_DOLLAR)
            for dollars in (max(breach.amount - breach.used, Decimal(0)), breach.worst)
        )
        return (
            f"There are {left:,} credits left, and the next call may take up to {wanted:,}. Ask "
            "whoever runs this installation for more."
        )
    return (
        f"{_sentence(breach)} The next call may cost up to {dollars(breach.worst)}. Ask whoever "
        "manages budgets to raise it."
    )


def code_of(breach: Breach) -> str:
    """The error class of a run that ends at a budget."""
    is_credits = breach.period == BudgetPeriod.CREDITS
    return "entitlement.credits_exhausted" if is_credits else "budget.exceeded"


def _sentence(breach: Breach) -> str:
    period = BudgetPeriod(breach.period).label
    return f"{dollars(breach.used)} of {dollars(breach.amount)} {period} is spent or reserved."


def read_answer(access: Access, gate: Gate, answer: JSON) -> JSON:
    """What a person answered, with what is to be done: `action`, and `dollars` of it. Raises
    `Invalid` (not one of `FORMS`), `Forbidden`: only who manages budgets lets runs spend more."""
    found = brakes.read_words(answer, _WORDS, FORMS)
    if found["stop"]:
        return answer | {"stop": True}
    access.require("data.budgets.manage")
    if found["finish"]:
        return answer | {"action": "finish", "dollars": gate.card["summary"]}
    action = "raise" if found["raise"] else "allow"
    proposed = gate.card["raised" if action == "raise" else "more"]
    amount = definitions.dollars_of(found["dollars"] or proposed)
    if not amount:
        raise Invalid("answers: say how many dollars.")
    if action == "raise":
        budget = definitions.get_budget(access, gate.card["budget_id"])
        if amount <= budget.amount:
            raise Invalid(f"answers: the budget is {dollars(budget.amount)} already.")
    return answer | {"action": action, "dollars": str(amount)}


def go_on(access: Access | None, run: Run, gate: Gate, answer: JSON) -> None:
    """Do what was answered. The caller holds the run's row. Raises `Invalid`, `Forbidden`."""
    amount = Decimal(answer.get("dollars", 0))
    match answer.get("action"):
        case "allow":
            definitions.grant(run, amount)
        case "finish":
            definitions.grant(run, amount)
            brakes.finish(run)
        case "raise":
            assert access is not None
            budget = definitions.get_budget(access, gate.card["budget_id"])
            definitions.change_budget(access, budget, amount=amount)


def dollars(amount: Decimal) -> str:
    """$12.50, rounded up to a cent."""
    return f"${amount.quantize(Decimal('0.01'), ROUND_UP):,}"


def _round_up(amount: Decimal) -> Decimal:
    """To one of 1, 2, 5, 10, 20, …: an amount that a person would choose."""
    step = Decimal(1).scaleb(amount.adjusted() if amount else 0)
    return next(step * n for n in (1, 2, 5, 10) if step * n >= amount)


def allows_again(gate: Gate) -> JSON:
    """The answer that time gives."""
    return {"answers": {one["question"]: AGAIN for one in gate.request["questions"]}}
