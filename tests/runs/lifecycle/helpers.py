"""What the tests of lifecycle share."""

import threading
from collections import Counter

from django.db import connections

from runs.lifecycle import leases
from runs.models import Event, Run


def event_types(run: Run) -> list[str]:
    return list(Event.objects.filter(run=run).order_by("seq").values_list("type", flat=True))


def assert_gapless(run: Run) -> None:
    run.refresh_from_db()
    seqs = list(Event.objects.filter(run=run).order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, run.last_seq + 1))


def _claimed(limit: int, worker: str = "w") -> dict[int, int]:
    """How many runs of each organization one claim takes."""
    taken = [lease.run_id for lease in leases.claim_runs(worker=worker, limit=limit)]
    owners = Run.objects.filter(pk__in=taken).values_list("organization_id", flat=True)
    return dict(Counter(owners))


def in_threads(count: int, function) -> list:  # type: ignore[no-untyped-def,type-arg]
    """Run `function(number)` in `count` threads at once; return results or exceptions."""
    results: list = [None] * count  # type: ignore[type-arg]
    barrier = threading.Barrier(count)

    def call(number: int) -> None:
        barrier.wait()
        try:
            results[number] = function(number)
        except Exception as error:
            results[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=call, args=[n]) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results
