"""One look at the database for all that a worker has to do without being told."""

import asyncio
import os
import re
import time
from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from django.utils import timezone

from runs.execution.poller import Poller, Work, what_is_due
from runs.models import Firing, Gate, Notice, Run, RunStatus, WebhookDelivery
from runs.notifications import notices
from runs.triggers import firing
from runs.triggers.targets import TriggerEvent, target_of
from teammates.access import Access
from teammates.integrations import checks
from teammates.models import Model
from tests.conftest import MakeServer, wait_for
from tests.database import cluster
from tests.factories import make_gate, make_run
from tests.runs.triggers.schedules import finish, make_schedule
from tests.runs.webhooks.receiving import make_endpoint

SOON, AGO = timedelta(hours=1), timedelta(seconds=1)
pytestmark = pytest.mark.django_db(transaction=True)


def queue_a_run(access: Access) -> None:
    make_run(access)


def let_a_gate_run_out(access: Access) -> None:
    gate = make_gate(access)
    Gate.objects.filter(pk=gate.pk).update(expires_at=timezone.now() + SOON)
    assert what_is_due() == []
    Gate.objects.filter(pk=gate.pk).update(expires_at=timezone.now() - AGO)


def let_a_schedule_come(access: Access) -> None:
    schedule = make_schedule(access)
    assert what_is_due() == []
    schedule.next_at = timezone.now() - AGO
    schedule.save(update_fields=["next_at"])


def set_a_schedule(access: Access) -> None:
    schedule = make_schedule(access)
    schedule.next_at = None
    schedule.save(update_fields=["next_at"])


def end_the_run_of_a_schedule(access: Access) -> None:
    target = target_of(make_schedule(access))
    fired = firing.fire(target, TriggerEvent(target.trigger.kind, due_at=timezone.now()))
    finish(Firing.objects.get(pk=fired.pk))


def owe_a_mail(access: Access) -> None:
    run = make_run(access, status=RunStatus.COMPLETED)
    notices.tell_of_trouble(run, title="Look", text="Something is odd.", path="/")
    assert Notice.objects.update(due_at=timezone.now() - AGO)


def owe_a_delivery(access: Access) -> None:
    make_endpoint(access, "https://example.com/hook")
    make_run(access, status=RunStatus.COMPLETED)
    assert WebhookDelivery.objects.exists()


def ask_a_model(access: Access) -> None:
    model = Model.objects.filter(organization=access.organization).first()
    assert model is not None
    checks.ask_model(access, model)


@pytest.mark.parametrize(
    ("make", "work"),
    [
        (queue_a_run, Work.RUNS),
        (let_a_gate_run_out, Work.GATES),
        (let_a_schedule_come, Work.TRIGGERS),
        (set_a_schedule, Work.TRIGGERS),
        (end_the_run_of_a_schedule, Work.TRIGGERS),
        (owe_a_mail, Work.MAIL),
        (owe_a_delivery, Work.DELIVERIES),
        (ask_a_model, Work.CHECKS),
    ],
)
def test_what_is_due_is_seen_and_nothing_else(
    alice: Access, make: Callable[[Access], None], work: Work
) -> None:
    assert what_is_due() == []
    make(alice)
    Run.objects.filter(status=RunStatus.QUEUED).exclude(
        pk__in=Run.objects.all() if make is queue_a_run else []
    ).update(available_at=timezone.now() + SOON)
    if work != Work.MAIL:
        Notice.objects.update(due_at=None)
    assert what_is_due() == [work]


async def test_a_look_that_fails_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [psycopg.OperationalError("away"), [Work.MAIL]]

    def look() -> list[Work]:
        answer = answers.pop(0) if answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("runs.execution.poller.what_is_due", look)
    monkeypatch.setattr("django.conf.settings.POLL_SECONDS", 0.01)
    poller = Poller()
    running = asyncio.create_task(poller.run())
    async with asyncio.timeout(20):
        await poller.news[Work.MAIL].wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not poller.news[Work.RUNS].is_set()


def test_an_idle_server_sends_at_most_four_statements_a_second(make_server: MakeServer) -> None:
    """All its processes together, as PostgreSQL writes them into its log."""
    server = make_server("--processes", "2", MUSTER_LEASE_SECONDS="30")
    with cluster.connect() as superuser:
        superuser.execute(f"ALTER DATABASE {server.database} SET log_statement = 'all'")
    server.stop()
    server.start("--processes", "2")

    def statements(seconds: int) -> list[str]:
        with (cluster.data / "server.log").open() as log:
            log.seek(0, os.SEEK_END)
            time.sleep(seconds)
            return re.findall(r"LOG:  (?:statement|execute \S+): (.*)", log.read())

    wait_for(lambda: 0 < len(statements(10)) <= 40, seconds=60)
    server.stop()
