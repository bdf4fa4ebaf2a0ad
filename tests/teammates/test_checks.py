"""Whether apps and models answer: asked by a worker, while nobody's request waits."""

import asyncio
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from teammates.access import Access
from teammates.errors import Forbidden, Invalid
from teammates.integrations import checks, servers
from teammates.llm import catalog
from teammates.models import Model, Organization, Provider, ToolServer
from teammates.providers.local import LocalServer
from teammates.views import models as models_views
from tests.factories import browser_of, make_key
from tests.fake_models import FakeModels
from tests.runs.execution.working import work_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tarpit() -> Iterator[str]:
    """An address that takes connections and never says anything."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


def add(access: Access, name: str, url: str) -> ToolServer:
    return servers.add_server(access, servers.NewServer(name=name, kind="mcp_http", url=url))


def test_an_app_is_saved_at_once_and_the_page_shows_its_answer_when_it_comes(
    alice: Access, tarpit: str, monkeypatch: Any
) -> None:
    browser = browser_of(alice)
    form = {"name": "Tar", "kind": "mcp_http", "url": tarpit, "auth_type": "none"}
    saved = browser.post("/settings/apps/", form)  # and does not wait for the tarpit
    assert saved.status_code == 302
    page = browser.get(saved["Location"]).content.decode()
    assert "Asking Tar what it offers" in page
    closed = tarpit.replace("127.0.0.1:", "127.0.0.1:1")[:18] + "/"
    ToolServer.objects.update(url=closed)  # nobody listens there: an answer that comes soon
    work_until(lambda: not ToolServer.objects.filter(check_due_at__isnull=False).exists())
    page = browser.get(saved["Location"]).content.decode()
    assert "Asking" not in page
    assert "It does not work" in page


def test_no_thread_waits_for_model_servers_of_this_machine(
    alice: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    Organization.objects.filter(pk=alice.organization.pk).update(is_home=True)

    async def find_servers() -> list[LocalServer]:
        return [LocalServer("Here", "ollama", "http://127.0.0.1:1/v1", ["llama"])]

    async def drawn(response: Any) -> str:
        return b"".join([piece async for piece in response]).decode()

    monkeypatch.setattr(models_views, "find_servers", find_servers)
    response = browser_of(alice).get("/settings/models/local/")
    assert response.is_async  # it is drawn on the event loop
    page = asyncio.run(drawn(response))
    assert "Here runs on this machine" in page
    assert "csrfmiddlewaretoken" in page


def test_the_api_does_not_wait_for_a_server_either(alice: Access, tarpit: str) -> None:
    from tests.api import call

    made = call(
        make_key(alice),
        "POST",
        "/api/v2/mcp-servers",
        {"name": "Tar", "kind": "mcp_http", "url": tarpit},
    )
    assert made.status_code == 201
    assert ToolServer.objects.get().check_due_at is not None


def test_of_each_organization_one_question_is_under_way(alice: Access, eve: Access) -> None:
    for access in (alice, eve):
        for name in ("One", "Two"):
            checks.ask_server(access, add(access, name, "http://127.0.0.1:1/"))
    claimed = checks.claim_due(busy=set(), limit=10)
    assert {check.organization_id for check in claimed} == {
        alice.organization.pk,
        eve.organization.pk,
    }
    assert len(claimed) == 2
    busy = {alice.organization.pk}
    assert [one.organization_id for one in checks.claim_due(busy=busy, limit=10)] == [
        eve.organization.pk
    ]


def test_a_question_is_asked_again_when_its_worker_died(alice: Access) -> None:
    checks.ask_server(alice, add(alice, "One", "http://127.0.0.1:1/"))
    assert len(checks.claim_due(busy=set(), limit=10)) == 1
    assert checks.claim_due(busy=set(), limit=10) == []
    ToolServer.objects.update(check_due_at=timezone.now() - timedelta(seconds=1))
    assert len(checks.claim_due(busy=set(), limit=10)) == 1


def test_a_question_that_was_asked_anew_meanwhile_stays_open(alice: Access) -> None:
    import asyncio

    server = add(alice, "One", "http://127.0.0.1:1/")
    checks.ask_server(alice, server)
    (claimed,) = checks.claim_due(busy=set(), limit=10)
    servers.update_server(alice, server, url="http://127.0.0.1:2/")
    server.refresh_from_db()
    checks.ask_server(alice, server)
    asyncio.run(checks.carry_out(claimed))
    server.refresh_from_db()
    assert server.check_due_at is not None
    assert server.checked_at is None


def test_a_model_is_tested_and_its_answer_kept(alice: Access, models: FakeModels) -> None:
    provider = catalog.create_provider(
        alice, name="P", kind="openai", api_key="sk-test-0123456789", base_url=f"{models.url}/v1"
    )
    model = catalog.add_model(alice, provider, alias="mine", name="ok")
    browser = browser_of(alice)
    path = f"/settings/models/{model.pk}/test/"
    assert "Asking" in browser.post(path, headers={"hx-request": "true"}).content.decode()
    work_until(lambda: Model.objects.get(pk=model.pk).tested_at is not None)
    assert "Answered in" in browser.get(path, headers={"hx-request": "true"}).content.decode()
    assert "Answered in" in browser.get("/settings/models/").content.decode()


def test_only_those_who_connect_things_have_them_asked(alice: Access, bob: Access) -> None:
    server = add(alice, "One", "http://127.0.0.1:1/")
    with pytest.raises(Forbidden):
        checks.ask_server(bob, server)
    model = Model.objects.filter(organization=alice.organization).first()
    assert model is not None
    with pytest.raises(Forbidden):
        checks.ask_model(bob, model)
    assert browser_of(bob).post(f"/settings/models/{model.pk}/test/").status_code == 403


def test_an_address_that_a_library_chokes_on_is_an_answer_too(alice: Access) -> None:
    refused = "http://\u24dbocalhost:8777/v1"
    with pytest.raises(Invalid, match="not a URL"):
        catalog.create_provider(alice, name="P", kind="openai_compatible", base_url=refused)
    provider = catalog.create_provider(
        alice, name="P", kind="openai_compatible", base_url="http://localhost:8777/v1"
    )
    Provider.objects.filter(pk=provider.pk).update(base_url=refused)  # of before
    provider.refresh_from_db()
    model = catalog.add_model(alice, provider, alias="m", name="m")
    asyncio.run(checks.carry_out(checks.Check(model)))
    model.refresh_from_db()
    assert model.test_error


def test_a_model_that_is_tried_is_told_as_much_as_its_provider_lists(
    home: Access, models: FakeModels
) -> None:
    models.listed = 200, {"data": [{"id": "ok", "max_model_len": 4096}, {"id": "other"}]}
    url = f"{models.url}/v1"
    provider = catalog.create_provider(home, name="vLLM", kind="openai_compatible", base_url=url)
    model = catalog.add_model(home, provider, alias="ok", name="ok")
    checks.ask_model(home, model)
    work_until(lambda: not Model.objects.filter(test_due_at__isnull=False).exists())
    model.refresh_from_db()
    assert (model.context_window, model.max_output_tokens) == (4096, 2048)
