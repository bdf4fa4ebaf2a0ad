"""People are told when a budget is half spent, nearly spent, and spent."""

from datetime import timedelta
from decimal import Decimal

from django.db import connection, transaction
from django.db.models import Case, DecimalField, F, Q, QuerySet, Value, When
from django.db.models.functions import Now, TruncDate
from django.urls import reverse

from runs.budgets.counting import COUNTS_AGAINST, RUNS, began_on
from runs.models import BudgetAction, BudgetCount, BudgetPeriod, Run
from runs.notifications import notices
from teammates.models import Role

SHARES = (50, 80, 100)  # percent
MOST_AT_ONCE = 50
LONGEST_PERIOD = timedelta(days=31)
_AT_THE_CAP = {
    BudgetAction.TELL: "Nothing is stopped at the cap.",
    BudgetAction.PAUSE: "At the cap, runs stop and ask before they spend more.",
    BudgetAction.STOP: "At the cap, runs fail.",
}
_NEWEST_RUN = f"""
SELECT r.id FROM runs_budget b JOIN {RUNS} ON {COUNTS_AGAINST} WHERE b.id = %s
ORDER BY r.id DESC LIMIT 1
"""


def due() -> "QuerySet[BudgetCount]":
    """What has passed a share that nobody was told of. Caps of single runs ask, and tell nothing
    before."""
    next_share = Case(
        *(
            When(told=told, then=Value(Decimal(share) / 100))
            for told, share in zip((0, *SHARES), SHARES, strict=False)
        ),
        output_field=DecimalField(),
    )
    counts = BudgetCount.objects.filter(told__lt=SHARES[-1], budget__amount__gt=0)
    recent = Q(starts_on=None) | Q(starts_on__gte=TruncDate(Now() - LONGEST_PERIOD))
    return (
        counts.filter(recent)
        .exclude(budget__period__in=[BudgetPeriod.RUN, BudgetPeriod.CREDITS])
        .filter(spent__gte=F("budget__amount") * next_share - F("kept"))
    )


def tell_due() -> int:
    """Tell the organization's owners and admins, once for a share; of several that were passed at
    once, the highest. Returns of how many counts."""
    with transaction.atomic():
        locked = due().select_for_update(skip_locked=True, no_key=True, of=("self",))
        counts = list(locked.select_related("budget").order_by("pk")[:MOST_AT_ONCE])
        for count in counts:
            assert count.budget is not None
            if count.starts_on != began_on(count.budget.period):
                count.told = SHARES[-1]  # that day is over: nobody is told of it any more
                count.save(update_fields=["told"])
                continue
            part = count.used / count.budget.amount * 100
            count.told = max(share for share in SHARES if share <= part)
            count.save(update_fields=["told"])
            _tell(count)
    return len(counts)


def _tell(count: BudgetCount) -> None:
    budget = count.budget
    assert budget is not None
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST_RUN, [budget.pk])
        newest = cursor.fetchone()
    if newest is None:  # none has run since
        return
    run = Run.objects.select_related("organization").get(pk=newest[0])
    amount, used = f"${budget.amount:,.2f}", f"${count.used:,.2f}"
    notices.tell_of_trouble(
        run,
        role=Role.ADMIN,
        title=f"{count.told} % of a budget is spent: {used} of {amount} for {budget.whose}",
        text=f"It is {amount} for {budget.get_period_display()}. "
        f"{_AT_THE_CAP[BudgetAction(budget.action)]}",
        path=reverse("runs:budget_list"),
    )
