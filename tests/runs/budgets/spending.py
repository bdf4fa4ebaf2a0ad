"""A model call as far as budgets are concerned: reserved for, begun, and ended with a cost."""

from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from runs.budgets import reserving
from runs.budgets.reserving import Breach
from runs.models import BudgetHold, Run, Step, StepKind, StepStatus


def begin(run_id: int, number: int, worst: Decimal) -> Step | None:
    with transaction.atomic():
        run = Run.objects.select_for_update(no_key=True).get(pk=run_id)
        now = timezone.now()
        holds = reserving.reserve(run, worst, now=now)
        if isinstance(holds, Breach):
            return None
        step = Step.objects.create(
            run=run, number=number, kind=StepKind.MODEL, attempt=1, first_seq=1, started_at=now
        )
        BudgetHold.objects.bulk_create(
            BudgetHold(step=step, count_id=hold.count_id, amount=hold.amount) for hold in holds
        )
        return step


def end(step: Step, cost: Decimal | None) -> None:
    with transaction.atomic():
        Run.objects.select_for_update(no_key=True).get(pk=step.run_id)
        Step.objects.filter(pk=step.pk).update(status=StepStatus.DONE, cost=cost)
        reserving.settle(step.pk)
