"""Every route, as a stranger, as a colleague, as somebody from elsewhere."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from config.api import hooks, v1, v2
from teammates.access import Access
from tests.factories import make_bob, make_key, make_run

PUBLIC_PAGES = {
    "forgot",
    "reset",
    "setup",
    "sign_in",
    "verify",
    "join",
    "gate_link",
    "shared_run",
    "shared_file",
    "shared_artifact",
}
PUBLIC_OPERATIONS = {
    ("v1", "/auth/register"),
    ("v1", "/auth/login"),
    ("v1", "/auth/refresh"),
    ("v2", "/signup"),
    ("v2", "/token"),
    ("hooks", "/auth/register"),
    ("hooks", "/auth/login"),
    ("hooks", "/auth/refresh"),
    ("hooks", "/webhooks/tasks/{task_id}/{token}"),
    ("hooks", "/webhooks/mates/{agent_id}/{token}"),
    ("hooks", "/mail/{token}"),
}
HEALTH = {"healthz", "readyz", "health", "robots.txt", "favicon.ico"}


def page_patterns(resolver: Any = None, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in (resolver or get_resolver()).url_patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            if not path.startswith(("v1/", "api/v2/", "api/v1/")):
                yield from page_patterns(pattern, path)
        else:
            yield path, pattern


def filled(path: str) -> str:
    import re

    values = {"uuid": "01890000-0000-7000-8000-000000000000", "int": "999999", "str": "x"}
    return "/" + re.sub(r"<(\w+):\w+>", lambda m: values[m[1]], path)


def test_every_page_but_the_entry_sends_a_stranger_to_sign_in(db: None) -> None:
    public = set()
    for path, pattern in page_patterns():
        if path in HEALTH:
            continue
        response = Client().get(filled(path))  # refused before the method is looked at
        if response.status_code == 302 and "/sign-in/?next=" in response["Location"]:
            continue
        public.add(pattern.name)
    assert public == PUBLIC_PAGES


def operations() -> Iterator[tuple[str, str, str]]:
    for name, api in (("v1", v1), ("v2", v2), ("hooks", hooks)):
        for path, methods in api.get_openapi_schema()["paths"].items():
            for method in methods:
                yield name, method, path


def test_every_operation_but_sign_up_refuses_a_stranger_in_its_envelope(db: None) -> None:
    open_ = set()
    for name, method, path in operations():
        url = path.replace("{", "").replace("}", "")
        body = {} if method == "get" else {"data": "{}", "content_type": "application/json"}
        response = getattr(Client(), method)(url, **body)
        if response.status_code == 401:
            body = response.json()
            code = body["code"] if name == "v1" else body["error"]["error_code"]
            assert code in ("auth.missing_token", "missing_token")
        else:
            for prefix in ("/v1", "/api/v2", "/api/v1"):
                path = path.removeprefix(prefix)
            open_.add((name, path))
    assert open_ == PUBLIC_OPERATIONS


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/runs/x/y/z", "/v1"])
def test_unknown_v1_routes_have_its_envelope(db: None, path: str) -> None:
    response = Client().get(path)
    assert response.status_code == 404
    assert response.json()["code"] == response.json()["error"] == "http.not_found"
    assert response.json()["trace_id"] == response["X-Trace-Id"]


@pytest.mark.parametrize("path", ["/api/v2/nothing", "/api/v2/runs/1/%2Fx", "/api/v3"])
def test_unknown_v2_routes_have_its_envelope(db: None, path: str) -> None:
    response = Client().get(path)
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found"
    assert response.json()["error"]["code"] == 404


def test_a_wrong_method_has_the_envelope(alice: Access) -> None:
    assert Client().put("/v1/runs").json()["code"] == "http.method_not_allowed"
    assert Client().put("/api/v2/runs/").json()["error"]["type"] == "method_not_allowed"


def test_a_crash_has_the_envelope_and_tells_nothing(alice: Access, monkeypatch: Any) -> None:
    from runs.queries import lookup

    def crash(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(lookup, "get_run", crash)
    key = make_key(alice)
    run = make_run(alice)
    for path in (f"/v1/runs/{run.uid}", f"/api/v2/runs/{run.pk}"):
        response = Client(raise_request_exception=False).get(
            path, headers={"authorization": f"Bearer {key}"}
        )
        assert response.status_code == 500
        assert response["Content-Type"].startswith("application/json")
        assert "secret detail" not in response.content.decode()


def test_the_docs_and_openapi_are_served(db: None) -> None:
    for prefix in ("/v1", "/api/v2"):
        docs = Client().get(f"{prefix}/docs")
        assert docs.status_code == 200
        assert "cdn" not in docs.content.decode()
        schema = Client().get(f"{prefix}/openapi.json").json()
        assert f"{prefix}/runs" in schema["paths"]


def test_other_organizations_and_colleagues(alice: Access, eve: Access) -> None:
    bob = make_bob(alice)
    run = make_run(alice)
    cases = [
        (eve, 404, 404),  # another organization's object does not exist
        (bob, 403, 404),  # a colleague's: 403 in v1, 404 elsewhere
    ]
    for access, v1_status, v2_status in cases:
        headers = {"authorization": f"Bearer {make_key(access)}"}
        thread = f"threads/{run.thread.uid}"
        runs = (f"runs/{run.uid}", f"runs/{run.uid}/events")
        for path in (*runs, thread, f"{thread}/messages", f"{thread}/runs"):
            assert Client().get(f"/v1/{path}", headers=headers).status_code == v1_status, path
        for verb in ("input", "cancel"):
            answer = Client().post(
                f"/v1/runs/{run.uid}/{verb}",
                headers=headers,
                data='{"content": "x"}' if verb == "input" else "{}",
                content_type="application/json",
            )
            assert answer.status_code == v1_status
        for path in ("", "/stream", "/files", "/files/a.txt/download"):
            answer = Client().get(f"/api/v2/runs/{run.pk}{path}", headers=headers)
            assert answer.status_code == v2_status, path
        client = Client()
        client.force_login(access.user)  # type: ignore[arg-type]
        for path in (f"/runs/{run.pk}/", f"/threads/{run.thread_id}/", f"/runs/{run.pk}/stream"):
            assert client.get(path).status_code == 404
        for verb in ("cancel", "answer"):
            assert client.post(f"/runs/{run.pk}/{verb}/").status_code == 404
    run.refresh_from_db()
    assert run.status == "queued"
