"""The worker asks apps and models whether they answer."""

import asyncio
import logging
from typing import Any

import pytest

from config.wakeups import WakeUps
from runs.execution.checker import Checker
from teammates.access import Access
from teammates.integrations import checks, servers
from teammates.models import ToolServer
from tests.conftest import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def add(access: Access, name: str) -> ToolServer:
    url = "http://127.0.0.1:1/"
    return servers.add_server(access, servers.NewServer(name=name, kind="mcp_http", url=url))


async def check_until(done: Any) -> None:
    running = asyncio.create_task(Checker(WakeUps(), asyncio.Event(), checks).run())
    try:
        await asyncio.to_thread(wait_for, done)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def asked() -> list[str]:
    return list(
        ToolServer.objects.filter(check_due_at=None).order_by("name").values_list("name", flat=True)
    )


def test_all_that_is_to_be_asked_is_asked_one_after_the_other(alice: Access) -> None:
    for name in ("One", "Two"):
        checks.ask_server(alice, add(alice, name))
    asyncio.run(check_until(lambda: len(asked()) == 2))
    assert asked() == ["One", "Two"]
    assert all(server.status_reason for server in ToolServer.objects.all())


def test_a_question_that_breaks_stops_no_other(
    alice: Access, monkeypatch: Any, caplog: Any
) -> None:
    carry_out, broken = checks.carry_out, add(alice, "Broken")
    fine = add(alice, "Fine")

    async def break_one(check: checks.Check) -> None:
        if check.row.pk == broken.pk:
            raise RuntimeError("a bug")
        await carry_out(check)

    monkeypatch.setattr(checks, "carry_out", break_one)
    for server in (broken, fine):
        checks.ask_server(alice, server)
    # Of one organization one question at a time: the broken one is given up, not waited for.
    with caplog.at_level(logging.ERROR):
        asyncio.run(check_until(lambda: asked() == ["Fine"]))
    assert "could not be done" in caplog.text
