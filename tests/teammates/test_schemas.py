"""Strangers' schemas: nothing is fetched, nothing takes long, no value is repeated."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teammates.integrations import tool_policies
from teammates.tools import schemas
from teammates.tools.rest import read_operation


@pytest.fixture
def bait() -> Iterator[tuple[str, list[str]]]:
    """A server that serves a schema, and what was fetched from it."""
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fetched.append(self.path)
            body = json.dumps({"const": "internal-secret"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/schema", fetched
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("where", ["{url}", "file:///etc/passwd"])
def test_a_schema_elsewhere_is_never_fetched(bait: tuple[str, list[str]], where: str) -> None:
    url, fetched = bait
    reference = {"$ref": where.format(url=url)}
    schema = {"type": "object", "properties": {"a": reference}}
    assert "cannot be used" in schemas.problem(schema, {"a": 1})
    assert "elsewhere" in schemas.unusable(schema)
    with pytest.raises(ValueError, match="elsewhere"):
        read_operation({"name": "a", "path": "/a", "parameters": schema})
    assert fetched == []


def test_a_schema_may_refer_to_itself() -> None:
    schema = {
        "type": "object",
        "$defs": {"n": {"type": "integer"}},
        "properties": {"a": {"$ref": "#/$defs/n"}},
    }
    assert schemas.unusable(schema) == ""
    assert schemas.problem(schema, {"a": 1}) == ""
    assert schemas.problem(schema, {"a": "x"}) == 'a does not fit: type must be "integer"'


@pytest.mark.parametrize("keyword", ["pattern", "patternProperties"])
def test_a_pattern_that_never_ends_is_given_up(keyword: str) -> None:
    slow, text = "^(a+)+$", "a" * 5000 + "!"
    if keyword == "pattern":
        found = schemas.problem({"type": "string", "pattern": slow}, text)
        assert "pattern must be" in found
    else:
        schema = {"type": "object", "patternProperties": {slow: {"type": "integer"}}}
        assert schemas.problem(schema, {text: "x"}) == ""


@given(st.text(min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_no_value_that_was_given_is_in_the_sentence(secret: str) -> None:
    secret = f"hunter2{secret}"
    schema = {
        "type": "object",
        "required": ["a"],
        "additionalProperties": False,
        "properties": {"a": {"type": "integer"}, "b": {"enum": [1]}},
    }
    for value in ({"a": secret}, {"a": 1, "b": secret}, {}, secret, [secret]):
        found = schemas.problem(schema, value)
        assert found
        assert "hunter2" not in found


def test_patterns_of_permissions_take_no_time() -> None:
    assert not tool_policies.fits({"x": "*a*a*a*a*b"}, {"x": "a" * 200_000})
    assert tool_policies.fits({"x": "*a*a*a*a*b"}, {"x": "a" * 200_000 + "b"})


@given(st.text(alphabet="ab*", min_size=1, max_size=8), st.text(alphabet="ab", max_size=8))
@settings(max_examples=300, deadline=None)
def test_a_star_stands_for_any_text_and_nothing_else_does(pattern: str, text: str) -> None:
    from fnmatch import fnmatchcase

    assert tool_policies.fits({"x": pattern}, {"x": text}) == fnmatchcase(text, pattern)
