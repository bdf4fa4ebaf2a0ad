"""The OpenAPI document of v2, exercised with made-up requests: no crash, nothing undocumented."""

import re
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance

from config.api import v1, v2
from tests.conftest import MakeServer, Server

# What would end the tests' own credential or account.
FATAL = {
    ("DELETE", "/account"),
    ("DELETE", "/keys"),
    ("POST", "/keys/rotate"),
    ("POST", "/token"),
    ("POST", "/signup"),
    ("POST", "/account/password"),
}


@pytest.mark.timeout(600)
def test_every_operation_answers_as_documented(make_server: MakeServer) -> None:
    server = make_server()  # of its own: what is made up also switches things off
    schema = schemathesis.openapi.from_url(f"{server.url}/api/v2/openapi.json")
    headers = {"Authorization": f"Bearer {server.key}"}
    tried = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        path = operation.path.removeprefix("/api/v2")
        if (operation.method.upper(), path) in FATAL:
            continue
        tried.add(path)

        @hypothesis.settings(
            max_examples=5,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def exercise(case: Any) -> None:
            case.call_and_validate(
                headers=headers, checks=[not_a_server_error, status_code_conformance], timeout=60
            )

        exercise()
    assert len(tried) > 80


def test_operations_have_names_of_their_own(server: Server) -> None:
    with server.client() as client:
        paths = client.get("/api/v2/openapi.json").json()["paths"]
    names = [one["operationId"] for path in paths.values() for one in path.values()]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"\w+", name) for name in names)


def test_clients_are_generated_with_names_that_say_nothing_of_our_modules() -> None:
    for api in (v1, v2):
        paths = api.get_openapi_schema()["paths"].values()
        names = [operation["operationId"] for path in paths for operation in path.values()]
        assert len(names) == len(set(names))
        assert not [name for name in names if "api_v" in name]
