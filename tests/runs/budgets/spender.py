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

from django.db import connection  # noqa: E402

from tests.runs.budgets.spending import begin, end  # noqa: E402


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
