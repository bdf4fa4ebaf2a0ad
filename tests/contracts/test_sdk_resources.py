"""The unmodified m8tes SDK: every resource, and that every method in scope is called by a test."""

import io
import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

m8tes = pytest.importorskip("m8tes", reason="the m8tes SDK needs Python 3.11.9 or newer")

from tests.conftest import MakeServer, Server, wait_for  # noqa: E402

PASSWORD = "correct horse battery"


@pytest.fixture
def client(server: Server) -> Any:
    with m8tes.M8tes(api_key=server.key, base_url=f"{server.url}/api/v2") as client:
        yield client


@pytest.fixture
def owner(server: Server) -> Any:
    """Somebody with a new account of their own, and its client."""
    email = f"{uuid.uuid4().hex}@example.com"
    made = m8tes.signup(email, PASSWORD, "Ann", product="platform", base_url=f"{server.url}/api/v2")
    with m8tes.M8tes(api_key=made.api_key, base_url=f"{server.url}/api/v2") as client:
        client.email = email
        yield client


def session(server: Server, email: str) -> Any:
    """A client that signs in as a person, as the command line does."""
    with server.client() as plain:
        said = (
            plain.post("/api/v1/auth/login", json={"email": email, "password": PASSWORD})
            .raise_for_status()
            .json()
        )
    return m8tes.M8tes(api_key=said["api_key"], base_url=f"{server.url}/api/v2"), said


def finished(client: Any, **fields: Any) -> Any:
    fields = {"message": "plain words", "poll_interval": 0.05} | fields
    return client.runs.create_and_wait(**fields)


# --- accounts -----------------------------------------------------------------------------------


def test_sign_up_gives_a_key_and_no_link(server: Server) -> None:
    url, email = f"{server.url}/api/v2", f"{uuid.uuid4().hex}@example.com"
    made = m8tes.signup(email, PASSWORD, "Ann", base_url=url)
    assert made.api_key.startswith("m8_")
    assert "http" not in made.message
    assert made.verification == "pending"
    with m8tes.M8tes(api_key=made.api_key, base_url=url) as client:
        assert client.auth.is_verified() is False
        assert client.auth.resend_verify() == "Verification email sent."
        assert client.settings.get().require_end_user_id is True
    with pytest.raises(m8tes.ConflictError):
        m8tes.signup(email, PASSWORD, "Ann", base_url=url)
    token = m8tes.get_token(email, PASSWORD, base_url=url)
    client = m8tes.M8tes(api_key=made.api_key, base_url=url)
    with client, pytest.raises(m8tes.AuthenticationError):
        client.auth.get_usage()
    with m8tes.M8tes(api_key=token.api_key, base_url=url) as client:
        usage = client.auth.get_usage()
    assert (usage.plan, usage.runs_used, usage.runs_limit) == ("inactive", 0, 0)
    assert usage.cost_used
    assert usage.cost_limit
    assert usage.overage_rate_cents == 1000
    for login in (email, "nobody@example.com"):
        with pytest.raises(m8tes.AuthenticationError):
            m8tes.get_token(login, "wrong", base_url=url)


def test_an_account_without_a_password_is_claimed_by_mail(server: Server) -> None:
    url, email = f"{server.url}/api/v2", f"{uuid.uuid4().hex}@example.com"
    made = m8tes.signup(email, None, "Ann", base_url=url)
    with m8tes.M8tes(api_key=made.api_key, base_url=url) as client:
        with pytest.raises(m8tes.PermissionDeniedError):
            client.keys.create(name="more")
        with pytest.raises(m8tes.PermissionDeniedError):
            client.keys.rotate()
        link = link_in_mail(server, email)
        with server.client() as browser:
            page = browser.get(link).raise_for_status().text
            form = {
                "password": PASSWORD,
                "csrfmiddlewaretoken": re.search(r'csrfmiddlewaretoken" value="([^"]+)', page)[1],
            }
            weak = browser.post(link, data=form | {"password": "short"})
            assert weak.status_code == 422
            assert browser.post(link, data=form).status_code == 302
            assert browser.get(link).status_code == 404  # used
        with pytest.raises(m8tes.AuthenticationError):  # it was for setting up only
            client.auth.is_verified()
    token = m8tes.get_token(email, PASSWORD, base_url=url)
    with m8tes.M8tes(api_key=token.api_key, base_url=url) as client:
        assert client.auth.is_verified()


def link_in_mail(server: Server, email: str) -> str:
    def look() -> str | None:
        for mail in (server.folder / "mail").glob("*"):
            text = mail.read_text().replace("=\n", "").replace("=3D", "=")
            if f"To: {email}" in text and (found := re.search(r"http\S+/verify/\S+", text)):
                return found[0]
        return None

    return str(wait_for(look)).removeprefix(server.url)


def confirm(server: Server, email: str) -> None:
    """Open the link of the mail, as the account's owner."""
    link = link_in_mail(server, email)
    with server.client() as browser:
        found = re.search(r'csrfmiddlewaretoken" value="([^"]+)', browser.get(link).text)
        form = {"password": PASSWORD, "csrfmiddlewaretoken": found[1]}
        assert browser.post(link, data=form).status_code == 302


def test_keys(owner: Any) -> None:
    assert owner.keys.info().prefix == owner.api_key[:12]
    named = owner.keys.create(name="build", expires_in_days=30)
    assert named.api_key.startswith("m8_")
    assert named.prefix == named.api_key[:12]
    assert [key.name for key in owner.keys.list().data] == ["build"]
    rotated = owner.keys.rotate(named.id)
    assert (rotated.id, rotated.api_key != named.api_key) == (named.id, True)
    old = m8tes.M8tes(api_key=named.api_key, base_url=owner.base_url)
    with old, pytest.raises(m8tes.AuthenticationError):
        old.keys.info()
    assert owner.keys.revoke(named.id).active is False
    with pytest.raises(m8tes.ConflictError):
        owner.keys.rotate(named.id)
    with pytest.raises(m8tes.ValidationError, match="name"):
        owner.keys.create(name=" ")
    fresh = owner.keys.rotate()
    with m8tes.M8tes(api_key=fresh.api_key, base_url=owner.base_url) as now:
        assert now.keys.revoke().has_key is False


def test_settings(owner: Any) -> None:
    before = owner.settings.get()
    assert (before.per_end_user_run_limit, before.retention_mode) == (None, "standard")
    assert before.approval_email_enabled
    assert before.result_slack_enabled
    changed = owner.settings.update(per_end_user_run_limit=5, result_email_enabled=False)
    assert (changed.per_end_user_run_limit, changed.result_email_enabled) == (5, False)
    assert owner.settings.update(per_end_user_run_limit=None).per_end_user_run_limit is None
    assert owner.settings.update(retention_mode="metadata_only").retention_mode == "metadata_only"
    for bad in ({"per_end_user_rate_per_minute": 0}, {"retention_mode": "nonsense"}):
        with pytest.raises(m8tes.ValidationError, match=next(iter(bad))):
            owner.settings.update(**bad)


def test_a_changed_password_ends_sessions_and_leaves_keys(server: Server, owner: Any) -> None:
    person, _ = session(server, owner.email)
    assert person.keys.info().has_key
    with pytest.raises(m8tes.AuthenticationError):
        owner.account.change_password("wrong", "another horse battery")
    with pytest.raises(m8tes.ValidationError, match="new_password"):
        owner.account.change_password(PASSWORD, "short")
    said = owner.account.change_password(PASSWORD, "another horse battery")
    with pytest.raises(m8tes.AuthenticationError):
        person.keys.info()
    with m8tes.M8tes(api_key=said["access_token"], base_url=owner.base_url) as fresh:
        assert fresh.keys.info().has_key
    assert owner.keys.info().has_key


def test_a_person_signs_out_everywhere_and_a_key_may_not(server: Server, owner: Any) -> None:
    person, _ = session(server, owner.email)
    with pytest.raises(m8tes.PermissionDeniedError):
        owner.account.revoke_sessions()
    person.account.revoke_sessions()
    with pytest.raises(m8tes.AuthenticationError):
        person.keys.info()
    assert owner.keys.info().has_key


def test_sessions_are_renewed_once_and_ended_one_by_one(server: Server, owner: Any) -> None:
    _, said = session(server, owner.email)
    other, _ = session(server, owner.email)
    with server.client(said["api_key"]) as plain:
        me = plain.get("/api/v1/auth/me").json()["user"]
        assert (me["email"], me["first_name"]) == (owner.email, "Ann")
        renewed = (
            plain.post("/api/v1/auth/refresh", json={"refresh_token": said["refresh_token"]})
            .raise_for_status()
            .json()
        )
        again = plain.post("/api/v1/auth/refresh", json={"refresh_token": said["refresh_token"]})
        assert again.status_code == 401
        assert renewed["refresh_token"] != said["refresh_token"]
        assert plain.post("/api/v1/auth/logout").json() == {"success": True}
        assert plain.get("/api/v1/auth/me").status_code == 401
    assert other.keys.info().has_key
    made = {"email": f"{uuid.uuid4().hex}@example.com", "password": PASSWORD, "first_name": "Bo"}
    with server.client() as plain:
        registered = plain.post("/api/v1/auth/register", json=made)
        assert registered.status_code == 201
        assert registered.json()["user"]["email"] == made["email"]
        assert not registered.json()["api_key"].startswith("m8_")


def test_ten_wrong_passwords_lock_an_account_for_a_while(make_server: MakeServer) -> None:
    url, email = f"{make_server(MUSTER_LIMITS='true').url}/api/v2", "ann@example.com"
    m8tes.signup(email, PASSWORD, "Ann", base_url=url)
    for _ in range(10):
        with pytest.raises(m8tes.AuthenticationError):
            m8tes.get_token(email, "wrong", base_url=url)
    with pytest.raises(m8tes.RateLimitError) as locked:  # the helper does not retry
        m8tes.get_token(email, PASSWORD, base_url=url)
    assert locked.value.retry_after > 60


def test_the_export_has_everything_but_secrets(server: Server, owner: Any) -> None:
    with pytest.raises(m8tes.PermissionDeniedError, match="Confirm"):
        owner.webhooks.create(url="https://example.com/hook")
    confirm(server, owner.email)
    owner.memories.create(content="Kim likes tea.")
    owner.webhooks.create(url="https://example.com/hook")
    run = finished(owner)
    document = owner.account.export()
    assert run.id in [one["id"] for one in document["runs"]]
    assert document["memories"][0]["content"] == "Kim likes tea."
    assert document["members"][0]["email"] == owner.email
    assert "secret" not in document["webhooks"][0]
    assert owner.api_key not in str(document)
    for section in document.values():
        if isinstance(section, list):
            assert not any({"hash", "hook_hash", "secret"} & set(row) for row in section)


def test_a_deleted_account_answers_nobody(server: Server, owner: Any) -> None:
    person, _ = session(server, owner.email)
    assert owner.account.delete()["status"] == "scheduled_for_deletion"
    for client in (owner, person):
        with pytest.raises(m8tes.AuthenticationError):
            client.keys.info()


def test_the_audit_log_tells_keys_from_people(server: Server, owner: Any) -> None:
    person, _ = session(server, owner.email)
    agent = person.agents.create(name="Made by a person")
    finished(owner, teammate_id=agent.id)
    rows = owner.audit_logs.list(auth="dashboard").data
    assert {row.api_key_prefix for row in rows} == {None}
    made = next(row for row in rows if row.method == "POST")
    assert (made.action, made.resource_type, made.status_code) == ("agent.create", "agent", 201)
    by_key = owner.audit_logs.list(auth="api_key", resource_type="run", limit=2)
    assert {row.api_key_prefix for row in by_key.data} == {owner.api_key[:12]}
    ids = [row.id for row in owner.audit_logs.list(auth="api_key", limit=2).auto_paging_iter()]
    assert ids == sorted(ids, reverse=True)
    assert owner.audit_logs.list(method="delete").data == []
    with pytest.raises(m8tes.NotFoundError):
        owner.runs.get(999_999_999)
    assert owner.audit_logs.list(status_code=404).data[0].resource_id == "999999999"


# --- end users and usage ------------------------------------------------------------------------


def test_end_users(owner: Any) -> None:
    made = owner.users.create(
        user_id="cust 1 é", name="Kim", email="kim@example.com", metadata={"tier": 1}, run_limit=0
    )
    assert (made.name, made.run_limit) == ("Kim", 0)
    with pytest.raises(m8tes.ConflictError):
        owner.users.create(user_id="cust 1 é")
    assert owner.users.get("cust 1 é").metadata == {"tier": 1}
    changed = owner.users.update("cust 1 é", metadata={"a": 2}, run_limit=None)
    assert (changed.name, changed.metadata, changed.run_limit) == ("Kim", {"a": 2}, None)
    owner.memories.create(content="x", user_id="by use")
    with pytest.raises(m8tes.ConflictError):
        owner.users.create(user_id="by use")
    assert {one.user_id for one in owner.users.list(limit=1).auto_paging_iter()} == {
        "cust 1 é",
        "by use",
    }
    owner.users.delete("by use")
    with pytest.raises(m8tes.NotFoundError):
        owner.users.get("by use")
    assert [one.content for one in owner.memories.list(user_id="by use").data] == ["x"]
    assert owner.users.create(user_id="by use").name is None
    for bad in ({"rate_per_minute": 0}, {"run_limit": -1}):
        with pytest.raises(m8tes.ValidationError, match=next(iter(bad))):
            owner.users.create(user_id="z", **bad)


def test_names_with_signs_of_urls_are_one_segment(owner: Any) -> None:
    for name in ("50%", "a?b=c", "x#y", "a:b", "back\\slash", "a b", "ü€", "a%2Eb", "+plus+"):
        owner.users.create(user_id=name, name=name)
        assert owner.users.get(name).name == name
        owner.users.delete(name)


def test_the_limits_of_an_end_user_hold(owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    owner.users.create(user_id="few", run_limit=1)
    owner.runs.create(message="slow 1 1ms", stream=False, user_id="few")
    with pytest.raises(m8tes.BillingError) as refused:
        owner.runs.create(message="x", stream=False, user_id="few")
    assert refused.value.code == "END_USER_RUN_LIMIT_REACHED"
    owner.users.create(user_id="none", cost_limit_cents=0)
    with pytest.raises(m8tes.BillingError) as refused:
        owner.runs.create(message="x", stream=False, user_id="none")
    assert refused.value.code == "END_USER_COST_LIMIT_REACHED"
    owner.settings.update(per_end_user_rate_per_minute=1)
    owner.runs.create(message="slow 1 1ms", stream=False, user_id="slow")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the SDK would wait and try again
    with pytest.raises(m8tes.RateLimitError) as later:
        owner.runs.create(message="x", stream=False, user_id="slow")
    assert later.value.code == "END_USER_RATE_LIMITED"
    assert later.value.details["limit_per_minute"] == 1
    assert later.value.retry_after > 0
    assert owner.runs.create(message="slow 1 1ms", stream=False).status == "running"


def test_usage_is_the_sum_of_the_runs(owner: Any) -> None:
    owner.users.create(user_id="fresh")
    (fresh,) = owner.users.usage("fresh").data
    assert (fresh.runs_used, fresh.cost_used, fresh.last_active_at) == (0, "0", None)
    assert fresh.period_end
    runs = [finished(owner, user_id="cust_u"), finished(owner)]
    totals = sum(run.usage.total_tokens for run in runs)
    series = owner.billing.usage_timeseries(group_by="model")
    assert len(series.buckets) == 30
    assert series.buckets[-1].date == series.end_date
    assert series.totals.total_tokens == totals
    assert series.buckets[-1].total_tokens == totals
    assert series.buckets[0].models == []
    today = series.buckets[-1].models
    assert sum(one.total_tokens for one in today) == totals
    scoped = owner.billing.usage_timeseries(user_id="cust_u", surface="api")
    assert scoped.totals.total_tokens == runs[0].usage.total_tokens
    assert owner.billing.usage_timeseries(user_id="never").totals.total_tokens == 0
    assert owner.billing.usage_timeseries(surface="platform").totals.total_tokens == 0
    with pytest.raises(m8tes.ValidationError, match="start_date"):
        owner.billing.usage_timeseries(start_date="2026-02-01", end_date="2026-01-01")
    (used,) = owner.users.usage("cust_u").data
    assert (used.runs_used, used.total_tokens) == (1, runs[0].usage.total_tokens)
    assert owner.billing.usage().runs_used == owner.auth.get_usage().runs_used == 2
    assert owner.billing.plans() == []


# --- agents -------------------------------------------------------------------------------------


def test_agents_from_first_to_last(client: Any) -> None:
    made = client.agents.create(
        name="  Ada\u3000",
        metadata={"a": {"b": [1]}},
        enable_memory=False,
        prompt_profile="bare",
        instructions="Only this.",
        allowed_senders=["@example.com"],
    )
    assert (made.name, made.status, made.visibility) == ("Ada", "enabled", "personal")
    assert (made.metadata, made.display_order) == ({"a": {"b": [1]}}, None)
    prompt = client.agents.system_prompt(made.id)
    assert (prompt.system_prompt, prompt.characters) == ("Only this.", 10)
    changed = client.agents.update(
        made.id, display_order=7, visibility="organization", enable_memory=None, tools=[]
    )
    assert (changed.display_order, changed.visibility) == (7, "organization")
    assert (changed.enable_memory, changed.tools) == (None, [])
    assert client.agents.disable(made.id).status == "disabled"
    assert made.id in [one.id for one in client.agents.list().data]
    with pytest.raises(m8tes.ConflictError):
        client.runs.create(message="x", stream=False, teammate_id=made.id)
    assert client.agents.enable(made.id).status == "enabled"
    with pytest.raises(m8tes.ValidationError):
        client.agents.unarchive(made.id)
    client.agents.delete(made.id)
    client.agents.delete(made.id)
    assert client.agents.get(made.id).status == "archived"
    assert made.id not in [one.id for one in client.agents.list(limit=100).data]
    assert made.id in [one.id for one in client.agents.list(include_archived=True).data]
    with pytest.raises(m8tes.NotFoundError):
        client.agents.enable(made.id)
    assert client.agents.unarchive(made.id).status == "disabled"
    assert client.agents.list_repos(made.id).data == []
    assert client.agents.reset(made.id) == []
    for bad, field in (
        ({"name": "\u3164"}, "name"),
        ({"model": "gpt-5"}, "model"),
        ({"allowed_senders": ["nobody"]}, "allowed_senders"),
        ({"slack_channels": ["x"]}, "slack_channels"),
        ({"effort": "huge"}, "effort"),
        ({"tools": ["nope"]}, "nope"),
    ):
        with pytest.raises(m8tes.ValidationError, match=field):
            client.agents.create(**bad)


def test_an_agents_webhook_and_addresses(client: Any) -> None:
    made = client.agents.create(name="Reachable", webhook=True, email_inbox=True)
    live = made.webhook_url
    assert "/api/v1/webhooks/mates/" in live
    assert "@" in made.email_address
    masked = client.agents.get(made.id)
    assert masked.webhook_enabled
    assert masked.webhook_url.endswith("****")
    assert live.startswith(masked.webhook_url.removesuffix("****"))
    paused = client.agents.set_webhook_enabled(made.id, enabled=False)
    assert (paused.enabled, paused.url) == (False, masked.webhook_url)
    rotated = client.agents.enable_webhook(made.id)
    assert rotated.url not in (live, masked.webhook_url)
    client.agents.disable_webhook(made.id)
    assert client.agents.get(made.id).webhook_url is None
    with pytest.raises(m8tes.ValidationError):
        client.agents.set_webhook_enabled(made.id, enabled=True)
    assert client.agents.set_webhook_enabled(made.id, enabled=False).enabled is False
    inbox = client.agents.enable_email_inbox(made.id)
    assert inbox.address == made.email_address
    fetch = client.agents.enable_fetchmail(made.id)
    assert fetch.address not in (None, inbox.address)
    client.agents.disable_email_inbox(made.id)
    client.agents.disable_fetchmail(made.id)
    gone = client.agents.get(made.id)
    assert (gone.email_address, gone.fetchmail_address) == (None, None)
    other = client.agents.create(name="Slack one", slack_slug="ada-slack")
    with pytest.raises(m8tes.ConflictError, match="slack_slug"):
        client.agents.create(name="Slack two", slack_slug=other.slack_slug)
    client.agents.create(name="Chat", imessage_chat_guid="iMessage;-;+1555")
    with pytest.raises(m8tes.ConflictError, match="imessage_chat_guid"):
        client.agents.create(name="Chat", imessage_chat_guid="iMessage;-;+1555")


def test_templates_bring_their_tasks(client: Any) -> None:
    templates = {one.slug: one for one in client.agent_templates.list()}
    assert templates["ppc-manager"].required_integrations
    assert client.teammate_templates.list()
    with pytest.raises(m8tes.ValidationError) as missing:
        client.agents.create(from_template="ppc-manager")
    assert missing.value.code == "missing_integration"
    with pytest.raises(m8tes.ValidationError) as conflict:
        client.agents.create(from_template="research-analyst", role="x")
    assert conflict.value.code == "from_template_conflict"
    with pytest.raises(m8tes.NotFoundError):
        client.agents.create(from_template="nonsense")
    made = client.agents.create(from_template="research-analyst")
    assert (made.name, made.template_slug) == ("Research analyst", "research-analyst")
    (task,) = client.tasks.list(agent_id=made.id).data
    assert (task.source_template_task_slug, task.is_modified) == ("weekly-brief", False)
    client.tasks.update(task.id, instructions="Something else.")
    assert client.tasks.get(task.id).is_modified
    client.agents.update(made.id, role="Mine", goals="Mine too")
    assert client.agents.reset(made.id, fields=["role"]) == ["role"]
    assert client.agents.get(made.id).goals == "Mine too"
    assert client.agents.reset(made.id) == ["goals"]


def test_documents_that_a_teammate_keeps(client: Any) -> None:
    agent = client.agents.create(name="Librarian")
    run = finished(client, message="document guide.md", agent_id=agent.id)
    assert run.status == "completed", run.error
    (document,) = client.agents.list_documents(agent.id)
    assert (document.name, document.source_run_id) == ("guide.md", run.id)
    assert client.agents.get_document(agent.id, "guide.md").content
    (same,) = client.documents.list(scope="teammate", agent_id=agent.id).data
    assert client.documents.get(same.id).content
    assert client.documents.update(same.id, name="manual.md", summary="How.").name == "manual.md"
    with pytest.raises(m8tes.NotFoundError):
        client.documents.get(same.id, user_id="cust_d")
    assert same.id not in [one.id for one in client.documents.list(scope="company").data]
    client.documents.delete(same.id)
    with pytest.raises(m8tes.NotFoundError):
        client.documents.get(same.id)


# --- tasks and triggers -------------------------------------------------------------------------


@pytest.fixture
def agent(client: Any) -> Any:
    return client.agents.create(name="Worker")


def test_tasks(client: Any, agent: Any) -> None:
    task = client.tasks.create(
        agent_id=agent.id,
        instructions="slow 2 1ms",
        goals="G",
        expected_output="E",
        schedule="0 9 * * 7",
        schedule_timezone="Europe/Berlin",
        permission_mode="approval",
    )
    assert (task.name, task.status, task.email_notifications) == ("slow 2 1ms", "enabled", True)
    assert (task.goals, task.expected_output, task.enable_lessons) == ("G", "E", True)
    (trigger,) = client.tasks.triggers.list(task.id)
    assert datetime.fromisoformat(trigger.next_run).weekday() == 6
    changed = client.tasks.update(task.id, name="Named", permission_mode=None, model="demo")
    assert (changed.name, changed.model) == ("Named", "demo")
    assert client.tasks.update(task.id, model=None).model is None
    done = client.tasks.run_and_wait(task.id, poll_interval=0.05, human_in_the_loop=True)
    assert (done.status, done.task_id, done.task_name) == ("completed", task.id, "Named")
    key = uuid.uuid4().hex
    first = client.tasks.run(task.id, stream=False, idempotency_key=key)
    assert client.tasks.run(task.id, stream=False, idempotency_key=key).id == first.id
    assert "word1" in "".join(client.tasks.run(task.id).iter_text())
    assert client.tasks.update(task.id, status="disabled").status == "disabled"
    with pytest.raises(m8tes.ValidationError):
        client.tasks.run(task.id, stream=False)
    client.tasks.update(task.id, status="enabled")
    client.tasks.delete(task.id)
    client.tasks.delete(task.id)
    assert client.tasks.get(task.id).status == "archived"
    assert task.id not in [one.id for one in client.tasks.list(limit=100).data]
    assert task.id in [one.id for one in client.tasks.list(include_archived=True).data]
    with pytest.raises(m8tes.NotFoundError):
        client.tasks.create(agent_id=999_999_999, instructions="x")
    with pytest.raises(m8tes.ValidationError, match="instructions"):
        client.tasks.create(agent_id=agent.id, instructions="")


def test_a_tasks_webhook(client: Any, agent: Any) -> None:
    task = client.tasks.create(agent_id=agent.id, instructions="x", webhook=True)
    assert "/webhooks/tasks/" in task.webhook_url
    assert client.tasks.get(task.id).webhook_enabled
    paused = client.tasks.set_webhook_enabled(task.id, enabled=False)
    assert (paused.enabled, "/api/" in paused.url) == (False, True)
    assert task.webhook_url.startswith(paused.url.removesuffix("****"))
    assert client.tasks.enable_webhook(task.id).url != task.webhook_url
    client.tasks.disable_webhook(task.id)
    client.tasks.disable_webhook(task.id)
    with pytest.raises(m8tes.ValidationError):
        client.tasks.set_webhook_enabled(task.id, enabled=True)


def test_triggers_of_all_types(client: Any, agent: Any) -> None:
    task = client.tasks.create(agent_id=agent.id, instructions="x")
    triggers = client.tasks.triggers
    at = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    once = triggers.create(task.id, type="schedule", run_at=at)
    assert datetime.fromisoformat(once.run_at) == datetime.fromisoformat(at)
    every = triggers.create(task.id, type="schedule", interval_seconds=3600)
    assert every.next_run
    hook = triggers.create(task.id, type="webhook")
    assert not hook.url.endswith("****")
    mail = triggers.create(task.id, type="email", allowed_senders=["kim@example.com"])
    assert "@" in mail.address
    listed = triggers.list(task.id)
    assert {one.id for one in listed} == {once.id, every.id, "webhook", "email"}
    changed = triggers.update(task.id, every.id, cron="*/5 * * * *", timezone="Europe/Berlin")
    assert (changed.cron, changed.interval_seconds) == ("*/5 * * * *", None)
    assert triggers.update(task.id, every.id, enabled=False).next_run is None
    wide = [one.id for one in client.triggers.list(task_id=task.id, limit=1).auto_paging_iter()]
    assert sorted(wide) == sorted(one.id for one in listed)
    assert [one.id for one in client.triggers.list(task_id=task.id, type="email").data] == ["email"]
    for bad, said in (
        ({}, "exactly one"),
        ({"cron": "x"}, "cron"),
        ({"cron": "* * * * *", "interval_seconds": 60}, "exactly one"),
        ({"cron": "0 0 * * *", "timezone": "Mars/Olympus"}, "timezone"),
        ({"run_at": datetime.now(UTC).isoformat()}, "run_at"),
        ({"interval_seconds": 1}, "interval_seconds"),
    ):
        with pytest.raises(m8tes.ValidationError, match=said):
            triggers.create(task.id, type="schedule", **bad)
    with pytest.raises(m8tes.ValidationError, match="type"):
        triggers.create(task.id, type="moon")
    for wrong in ("webhook", "email", every.id.partition("_")[2]):
        with pytest.raises(m8tes.ValidationError):
            triggers.delete(task.id, wrong)
    triggers.delete(task.id, every.id)
    with pytest.raises(m8tes.NotFoundError):
        triggers.delete(task.id, every.id)
    client.agents.disable(agent.id)
    resting = {one.id: one.enabled for one in triggers.list(task.id)}
    assert resting == {once.id: False, "webhook": False, "email": False}
    with pytest.raises(m8tes.ValidationError):
        triggers.create(task.id, type="schedule", cron="0 0 * * *")
    client.agents.enable(agent.id)
    awake = {one.id: one.enabled for one in triggers.list(task.id)}
    assert awake == {once.id: True, "webhook": False, "email": False}
    client.agents.delete(agent.id)
    client.agents.unarchive(agent.id)
    client.agents.enable(agent.id)
    assert not any(one.enabled for one in triggers.list(task.id))


def test_lessons_of_a_task_reach_its_next_run(client: Any, agent: Any) -> None:
    task = client.tasks.create(agent_id=agent.id, instructions="lesson Check the date first.")
    first = client.tasks.run_and_wait(task.id, poll_interval=0.05)
    found = client.tasks.lessons(task.id)
    (lesson,) = found.data
    assert (lesson.text, lesson.source_run_id) == ("Check the date first.", first.id)
    assert found.capacity_used == 1
    assert found.capacity_limit > 0
    client.tasks.run_and_wait(task.id, poll_interval=0.05)
    assert client.tasks.lessons(task.id).data[0].reaffirm_count == 1
    assert client.tasks.delete_lesson(task.id, lesson.id).data == []
    with pytest.raises(m8tes.NotFoundError):
        assert client.tasks.delete_lesson(task.id, lesson.id).data == []
    client.tasks.clear_lessons(task.id)
    assert client.tasks.clear_lessons(task.id).capacity_used == 0
    assert client.tasks.lessons(task.id).data == []


# --- runs ---------------------------------------------------------------------------------------


def test_messages_with_both_cursors(client: Any) -> None:
    run = finished(client, message="think todo file notes.txt")
    everything = client.runs.messages(run.id)
    numbers = [one.sequence for one in everything]
    assert numbers == sorted(set(numbers))
    assert (everything[0].role, everything[0].content) == ("user", "think todo file notes.txt")
    assert everything[-1].role == "assistant"
    kinds = {block["type"] for one in everything for block in one.content_blocks}
    assert kinds == {"text", "thinking", "tool_use", "tool_result"}
    assert len({one.id for one in everything}) == len(everything)
    after = client.runs.messages(run.id, after_sequence=numbers[1])
    assert [one.sequence for one in after] == numbers[2:]
    assert [one.sequence for one in client.runs.messages(run.id, limit=2)] == numbers[:2]
    tail = client.runs.messages(run.id, tail=True, limit=2)
    assert [one.sequence for one in tail] == numbers[-2:]
    older = client.runs.messages(run.id, before_sequence=tail[0].sequence, limit=2)
    assert [one.sequence for one in older] == numbers[-4:-2]
    before = client.runs.messages(run.id, before_sequence=numbers[1])
    assert [one.sequence for one in before] == numbers[:1]
    traced = client.runs.messages(run.id, include_trace=True)
    assert traced[1].event_metadata["event_trace"]
    with pytest.raises(m8tes.ValidationError):
        client.runs.messages(run.id, tail=True, after_sequence=1)
    with pytest.raises(m8tes.ValidationError):
        client.runs.messages(run.id, before_sequence=3, after_sequence=1)


def test_the_outcome_of_a_run(client: Any) -> None:
    run = finished(client)
    outcome = client.runs.outcome(run.id)
    assert (outcome.status, outcome.summary) == ("completed", run.output)
    assert outcome.headline
    assert outcome.total_tokens == run.usage.total_tokens
    assert (outcome.needs_reply, outcome.delivery_channel) == (False, "none")
    with pytest.raises(m8tes.NotFoundError):
        client.runs.outcome(999_999_999)


def test_what_needs_somebody(owner: Any) -> None:
    never = owner.runs.check(user_id="never seen")
    assert (never.total_count, never.latest_run_id, never.awaiting_count) == (0, None, 0)
    run = owner.runs.create(message="ask me something", stream=False, human_in_the_loop=True)
    wait_for(lambda: owner.runs.get(run.id).status == "awaiting_approval")
    quiet = finished(owner)
    check = owner.runs.check()
    assert (check.total_count, check.awaiting_count) == (2, 1)
    assert check.latest_run_id == quiet.id
    assert check.roster_count >= 3
    needs = owner.runs.needs_you()
    assert (needs.count, [one.run_id for one in needs.items]) == (1, [run.id])
    assert "ask me" not in needs.items[0].title
    assert [one.id for one in owner.runs.list(sort="priority").data] == [run.id, quiet.id]
    paged = owner.runs.list(sort="priority", limit=1).auto_paging_iter()
    assert [one.id for one in paged] == [run.id, quiet.id]
    activity = {one.agent_id: one.runs for one in owner.runs.activity().data}
    assert {one.id for runs in activity.values() for one in runs} == {run.id, quiet.id}
    owner.runs.cancel(run.id)
    assert owner.runs.needs_you().count == 0
    asked = finished(owner, message="wonder")
    assert (asked.needs_reply, owner.runs.needs_you().count) == (True, 1)
    owner.runs.reply_and_wait(asked.id, message="plain words", poll_interval=0.05)
    assert owner.runs.needs_you().count == 0


def test_archive_view_and_share(client: Any, server: Server) -> None:
    run = finished(client, message="file shared.txt")
    assert client.runs.archive(run.id).archived
    assert client.runs.archive(run.id).archived
    listed = [one.id for one in client.runs.list(limit=100).data]
    assert run.id not in listed
    assert run.id in [one.id for one in client.runs.list(archived="only", limit=100).data]
    assert run.id in [one.id for one in client.runs.list(status="archived", limit=100).data]
    assert client.runs.get(run.id).archived
    assert not client.runs.unarchive(run.id).archived
    first = client.runs.mark_viewed(run.id).last_viewed_at
    assert client.runs.mark_viewed(run.id).last_viewed_at > first
    share = client.runs.share(run.id)
    assert share.share_token in share.share_url
    assert client.runs.share(run.id).share_url == share.share_url
    with server.client("nobody") as stranger:
        path = share.share_url.removeprefix(server.url)
        page = stranger.get(path)
        assert page.status_code == 200
        assert "shared.txt" in page.text
        assert stranger.get(f"{path}shared.txt").status_code == 200
        client.runs.unshare(run.id)
        assert stranger.get(path).status_code == 404
        assert stranger.get(f"{path}shared.txt").status_code == 404
    again = client.runs.share(run.id)
    assert again.share_token != share.share_token


def test_retry_makes_one_new_run(client: Any) -> None:
    run = finished(client, message="fail now", user_id="cust_r", metadata={"k": 1})
    assert (run.status, run.retryable) == ("failed", True)
    again = client.runs.retry(run.id)
    assert (again.retry_of_run_id, again.user_id, again.metadata) == (run.id, "cust_r", {"k": 1})
    assert client.runs.poll(again.id, interval=0.05).status == "failed"
    assert client.runs.get(run.id).retried_by_run_id == again.id
    done = finished(client)
    with pytest.raises(m8tes.ConflictError) as refused:
        client.runs.retry(done.id)
    assert refused.value.code == "run_not_retryable"
    busy = client.runs.create(message="slow 500 10ms", stream=False)
    client.runs.cancel(busy.id)
    wait_for(lambda: client.runs.get(busy.id).status == "cancelled")
    one = client.runs.retry(busy.id)
    assert client.runs.retry(busy.id).id == one.id
    client.runs.cancel(one.id)


def test_a_retry_that_would_repeat_actions_is_confirmed_first(client: Any) -> None:
    run = finished(
        client,
        message="approve and stumble",
        human_in_the_loop=True,
        on_approval=lambda request: "allow",
    )
    assert (run.status, client.runs.get(run.id).repeats_actions) == ("failed", True)
    with pytest.raises(m8tes.ConflictError) as refused:
        client.runs.retry(run.id)
    assert refused.value.code == "retry_needs_confirmation"
    again = client.runs.retry(run.id, confirm=True)
    assert again.id != run.id
    client.runs.cancel(again.id)


def test_files_go_in_with_a_message(client: Any, tmp_path: Path) -> None:
    table = tmp_path / "données.csv"
    table.write_bytes(b"a,b\n1,2\n")
    run = client.runs.create(message="now read it", stream=False, files=[str(table)])
    done = client.runs.poll(run.id, interval=0.05)
    assert "1,2" in str(client.runs.messages(run.id))
    assert done.status == "completed"
    assert [one.name for one in client.runs.list_files(run.id)] == ["données.csv"]
    assert client.runs.download_file(run.id, "données.csv") == b"a,b\n1,2\n"
    table.write_bytes(b"other")
    stream = client.runs.reply(run.id, message="plain words", files=[str(table)])
    list(stream)
    names = [one.name for one in client.runs.list_files(stream.run_id)]
    assert names == ["données-2.csv"]
    key = uuid.uuid4().hex
    first = client.runs.create(
        message="plain words", stream=False, files=[part(b"one")], idempotency_key=key
    )
    same = client.runs.create(
        message="plain words", stream=False, files=[part(b"one")], idempotency_key=key
    )
    assert same.id == first.id
    with pytest.raises(m8tes.ConflictError) as reuse:
        client.runs.create(
            message="plain words", stream=False, files=[part(b"two")], idempotency_key=key
        )
    assert reuse.value.code == "idempotency_key_reuse"


def test_a_stream_that_is_cut_behind_any_frame_is_joined_again(client: Any) -> None:
    message, text = "think todo slow 8 20ms", "".join(f"word{n} " for n in range(1, 9))
    whole = client.runs.create(message=message)
    frames = len(list(whole))
    assert whole.text.endswith(text)
    for cut in range(1, frames, 3):
        with client.runs.create(message=message) as stream:
            events = iter(stream)
            for _ in range(cut):
                next(events)
            run_id = stream.run_id  # and the connection is cut here
        try:
            joined = client.runs.stream(run_id)
            list(joined)
            assert joined.text == whole.text, cut
            assert not joined.errors
        except m8tes.ConflictError:  # it was over by then
            pass
        done = client.runs.poll(run_id, interval=0.02)
        assert (done.status, done.output) == ("completed", text)


def part(content: bytes) -> io.BytesIO:
    file = io.BytesIO(content)
    file.name = "part.txt"
    return file


def test_a_first_session_happens_once(client: Any) -> None:
    agent = client.agents.create(name="Newcomer")
    stream = client.runs.start_first_session(agent_id=agent.id)
    assert list(stream)
    assert stream.run_id
    with pytest.raises(m8tes.ConflictError):
        client.runs.start_first_session(agent_id=agent.id, stream=False)


# --- webhooks, artifacts, feedback, apps --------------------------------------------------------


def test_webhooks(client: Any) -> None:
    made = client.webhooks.create(url="https://example.com/hook")
    assert made.events == ["run.completed", "run.failed", "run.cancelled"]
    assert len(made.secret) >= 32
    assert int(made.secret, 16)
    shown = client.webhooks.get(made.id)
    assert shown.secret == f"{made.secret[:4]}..."
    assert client.webhooks.update(made.id, events=[], active=False).active is False
    assert client.webhooks.get(made.id).events == []
    rotated = client.webhooks.update(made.id, rotate_secret=True)
    assert rotated.secret not in (made.secret, shown.secret)
    assert client.webhooks.list_deliveries(made.id).data == []
    assert made.id in [one.id for one in client.webhooks.list(limit=1).auto_paging_iter()]
    scoped = client.webhooks.create(url="https://example.com/hook", user_id="cust_w")
    with pytest.raises(m8tes.NotFoundError):
        client.webhooks.get(scoped.id)
    assert client.webhooks.get(scoped.id, user_id="cust_w").user_id == "cust_w"
    for url in (
        "http://example.com",
        "https://localhost/x",
        "https://127.0.0.1",
        "https://10.0.0.1",
        "https://[::1]/",
        "https://a.internal",
        "https://b.local",
        "https://2130706433",
        "https://0x7f.1",
        "https://169.254.169.254",
        "https://u:p@example.com",
        "x",
    ):
        with pytest.raises(m8tes.ValidationError, match="url"):
            client.webhooks.create(url=url)
    with pytest.raises(m8tes.ValidationError, match="events"):
        client.webhooks.create(url="https://example.com", events=["run.exploded"])
    client.webhooks.delete(made.id)
    with pytest.raises(m8tes.NotFoundError):
        client.webhooks.delete(made.id)
    body, sent = b'{"a": 1}', {"Webhook-Id": "evt_1", "Webhook-Timestamp": "1700000000"}
    import hashlib
    import hmac

    digest = hmac.new(b"s", b"evt_1.1700000000." + body, hashlib.sha256).hexdigest()
    assert client.webhooks.verify_signature(
        body=body, secret="s", headers=sent | {"Webhook-Signature": f"v1={digest}"}
    )


def test_the_sdk_knows_our_signature(make_server: Any) -> None:
    """A real run, a real receiver, the SDK's own check; the task was started by its webhook."""
    import httpx2

    from tests.receivers import serve_receiver

    with serve_receiver() as receiver:
        server = make_server(MUSTER_ALLOW_PRIVATE_ADDRESSES="true", MUSTER_POLL_SECONDS="0.2")
        with m8tes.M8tes(api_key=server.key, base_url=f"{server.url}/api/v2") as client:
            made = client.webhooks.create(
                url=f"{receiver.url}/ok", events=["run.started", "run.completed"]
            )
            agent = client.agents.create(name="Ops")
            task = client.tasks.create(agent_id=agent.id, instructions="Say hello", webhook=True)
            called = httpx2.post(task.webhook_url, json={"a": 1}, trust_env=False)
            assert called.status_code == 202
            run_id = called.json()["run_id"]
            client.runs.wait(run_id)
            wait_for(lambda: len(receiver.seen) == 2)
            for request in receiver.seen:
                assert client.webhooks.verify_signature(
                    request.body, request.headers, made.secret, tolerance_seconds=300
                )
                assert not client.webhooks.verify_signature(
                    request.body + b" ", request.headers, made.secret
                )
            wait_for(
                lambda: all(
                    one.status == "success" for one in client.webhooks.list_deliveries(made.id).data
                )
            )
            newest, first = client.webhooks.list_deliveries(made.id).data
            assert (newest.event_type, first.event_type) == ("run.completed", "run.started")
            assert (newest.run_id, newest.attempts, newest.response_status_code) == (run_id, 1, 200)
        server.stop()


def test_servers_are_listed_by_scope(client: Any) -> None:
    made = client.mcp_servers.create(name="List me", url="https://example.com", user_id="cust_s")
    assert made.id in [one.id for one in client.mcp_servers.list(user_id="cust_s")]
    assert made.id not in [one.id for one in client.mcp_servers.list()]


def test_artifacts(client: Any, server: Server) -> None:
    run = finished(client, message="file report.md")
    made = client.artifacts.create(run_id=run.id, filename="report.md")
    assert client.artifacts.create(run_id=run.id, filename="report.md").id == made.id
    with pytest.raises(m8tes.NotFoundError):
        client.artifacts.create(run_id=run.id, filename="nothing.md")
    assert client.artifacts.download(made.id) == client.runs.download_file(run.id, "report.md")
    assert [one.id for one in client.artifacts.list(run_id=run.id).data] == [made.id]
    assert client.artifacts.list(agent_id=999_999_999).data == []
    share = client.artifacts.share(made.id)
    assert client.artifacts.get(made.id).share_url == share.share_url
    with server.client("nobody") as stranger:
        path = share.share_url.removeprefix(server.url)
        assert stranger.get(path).content == client.artifacts.download(made.id)
        client.artifacts.unshare(made.id)
        assert stranger.get(path).status_code == 404
    client.artifacts.delete(made.id)
    with pytest.raises(m8tes.NotFoundError):
        client.artifacts.get(made.id)


def test_feedback(client: Any) -> None:
    run = finished(client)
    made = client.feedback.create(message="It works.", run_id=run.id, title="Praise")
    assert (made.title, made.run_id) == ("Praise", run.id)
    with pytest.raises(m8tes.NotFoundError):
        client.feedback.create(message="x", run_id=999_999_999)


def test_connections_of_apps(client: Any) -> None:
    client.apps.connect_api_key("notion", "ntn_test", user_id="cust_n")
    (one,) = client.apps.connections.list(user_id="cust_n").data
    named = client.apps.connections.update(one.id, label="Sales", notes="CRM", user_id="cust_n")
    assert (named.label, named.notes) == ("Sales", "CRM")
    client.apps.connections.delete(one.id, user_id="cust_n")
    assert client.apps.connections.list(user_id="cust_n").data == []
    assert client.apps.list_triggers("notion") == []
    for connect in (
        lambda: client.apps.connect("notion", redirect_uri="https://example.com"),
        lambda: client.apps.connect_oauth("notion", "https://example.com"),
        lambda: client.apps.connect_complete("notion", connection_id="x"),
        lambda: client.apps.provision("notion"),
    ):
        with pytest.raises(m8tes.ValidationError, match="key"):
            connect()
    with pytest.raises(m8tes.NotFoundError):
        client.apps.provision("no_such_app")


# --- everything ---------------------------------------------------------------------------------

NOT_IN_SCOPE = {
    "billing": "payments (contract 0), but usage and plans",
    "bridges": "bridges (contract 0)",
    "channels": "peripheral (contract 2.11)",
    "github_app": "GitHub app (contract 0)",
    "groups": "groups (contract 0)",
    "judgments": "judgments (contract 0)",
    "model_connections": "own-subscription model connections (contract 0)",
    "teams": "teams (contract 0)",
    "value": "value (contract 0)",
}
NOT_METHODS_IN_SCOPE = {
    "agents": {
        "approve_repo_commands",
        "clear_repo_commands",
        "configure_repo",
        "create_slack_channel",
        "delete_repo_env_key",
        "get_repo_env",
        "remove_repo",
        "set_repo_env",
    },
    "apps": {
        "claim",
        "complete_external_oauth",
        "connect_external_oauth",
        "disconnect_workspace",
        "install",
        "list_channels",
        "list_customers",
        "list_members",
        "list_sites",
        "list_workspaces",
        "release",
        "select_customer",
        "select_site",
    },
    "mcp_servers": {"complete_oauth", "start_oauth"},
    "runs": {"desktop", "desktop_ticket"},
}
STILL_IN_SCOPE = {"billing": {"usage", "usage_timeseries", "plans"}}
ALIASES = {"teammates": "agents", "teammate_templates": "agent_templates", "owner": "client"}


def test_every_method_in_scope_is_called_by_a_test(client: Any) -> None:
    source = "".join(
        (Path(__file__).parent / name).read_text()
        for name in ("test_sdk.py", "test_sdk_resources.py")
    )
    called = set(re.findall(r"(?:client|owner|person)\.(\w+)\.(\w+)\(", source))
    missing = []
    for resource, value in vars(client).items():
        if resource.startswith("_") or not type(value).__module__.startswith("m8tes._resources"):
            continue
        resource = ALIASES.get(resource, resource)
        for method in dir(value):
            if method.startswith("_") or not callable(getattr(value, method)):
                continue
            if resource in NOT_IN_SCOPE and method not in STILL_IN_SCOPE.get(resource, ()):
                continue
            if method in NOT_METHODS_IN_SCOPE.get(resource, ()):
                continue
            if (resource, method) not in called:
                missing.append(f"{resource}.{method}")
    assert sorted(set(missing)) == []
