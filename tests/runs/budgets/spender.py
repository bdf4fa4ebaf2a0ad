"""A process that spends: each of its threads makes the calls of a run, one after the other.

Its arguments: the runs (ids), the calls of each, a seed, and after how many calls it dies in the
middle of one (0: never).
"""

import os
import random
import sys
import threading
from decimal import Decimal

import django

django.setup()

from django.db import connection, transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from runs.budgets import reserving  # noqa: E402
from runs.budgets.reserving import Breach  # noqa: E402
from runs.models import BudgetHold, Run, Step, StepKind, StepStatus  # noqa: E402


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


def end(step: Step, cost: Decimal) -> None:
    with transaction.atomic():
        Run.objects.select_for_update(no_key=True).get(pk=step.run_id)
        Step.objects.filter(pk=step.pk).update(status=StepStatus.DONE, cost=cost)
        reserving.settle(step.pk)


def spend(run_id: int, calls: int, chance: random.Random, dies_after: int) -> None:
    for number in range(1, calls + 1):
        worst = Decimal(chance.randint(1, 800)) / 1000
        step = begin(run_id, number, worst)
        if step is None:
            continue
        if 0 < dies_after <= number:
            os.kill(os.getpid(), 9)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(%s)", [chance.random() / 500])
        end(step, worst * chance.randint(0, 1000) / 1000)
    connection.close()


def main() -> None:
    calls, seed, dies_after = (int(argument) for argument in sys.argv[2:5])
    threads = [
        threading.Thread(
            target=spend, args=(int(run), calls, random.Random(f"{seed} {run}"), dies_after)
        )
        for run in sys.argv[1].split(",")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
