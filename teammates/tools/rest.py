"""REST APIs as tools: a described list of operations, called with a stored credential."""

import re
from typing import Any
from urllib.parse import quote

import httpx2

from teammates.public_http import BlockedAddress, outside_client
from teammates.text import read_json
from teammates.tools.base import ToolContext, ToolError, UnknownEffect
from teammates.tools.servers import Operation, ServerConnection
from teammates.types import JSON

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
LARGEST_BODY = 4 * 1024 * 1024  # bytes read of an answer
TIMEOUT = httpx2.Timeout(connect=10, read=45, write=30, pool=10)
_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def read_operations(given: list[Any]) -> list[Operation]:
    """`tool_defs`; call it within a budget. Raises `ValueError` naming the entry."""
    found: list[Operation] = []
    for number, entry in enumerate(given):
        try:
            operation = read_operation(entry)
        except ValueError as error:
            raise ValueError(f"tool_defs[{number}]: {error}") from None
        if operation.name in {one.name for one in found}:
            raise ValueError(f"tool_defs[{number}]: there are two operations {operation.name!r}")
        found.append(operation)
    return found


def read_operation(given: Any) -> Operation:
    """One entry of `tool_defs`: name, method, path, description, parameters (a JSON schema).

    Raises `ValueError` naming what is wrong.
    """
    if not isinstance(given, dict):
        raise ValueError("must be an object")
    known = {"name", "method", "path", "description", "title", "parameters", "input_schema"}
    if unknown := given.keys() - known:
        raise ValueError(f"has the unknown field {sorted(unknown)[0]!r}")
    name, path = str(given.get("name") or ""), str(given.get("path") or "")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,48}", name):
        raise ValueError("name must have 1 to 48 letters, digits, _ or -")
    method = str(given.get("method") or "GET").upper()
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}")
    if not path.startswith("/") or "://" in path or ".." in path:
        raise ValueError("path must begin with / and stay on the server")
    places = _PLACE.findall(path)
    schema = given.get("parameters") or given.get("input_schema") or _default_schema(method, places)
    from teammates.tools import schemas  # loaded with the first one

    if wrong := schemas.unusable(schema):
        raise ValueError(f"parameters {wrong}")
    if missing := [place for place in places if place not in schema.get("properties", {})]:
        raise ValueError(f"parameters must describe {missing[0]!r} of the path")
    required = sorted({*schema.get("required", []), *places})
    return Operation(
        name=name,
        title=str(given.get("title") or "")[:100],
        description=str(given.get("description") or f"{method} {path}")[:2000],
        schema=schema | {"type": "object", "required": required},
        reads_only=method in ("GET", "HEAD"),
        may_repeat=method in ("GET", "HEAD"),
        destroys=method == "DELETE",
        method=method,
        path=path,
    )


def _default_schema(method: str, places: list[str]) -> JSON:
    properties: JSON = {place: {"type": ["string", "integer"]} for place in places}
    properties["query"] = {"type": "object", "description": "Query parameters."}
    if method in ("POST", "PUT", "PATCH"):
        properties["body"] = {"type": "object", "description": "The JSON body."}
    return {"type": "object", "properties": properties, "additionalProperties": False}


async def call(
    connection: ServerConnection,
    operation: Operation,
    context: ToolContext,
    arguments: JSON,
) -> Any:
    """Make the request. Raises `ToolError`, or `UnknownEffect` if a change was sent and no answer
    came."""
    url, query, body = _request(connection, operation, arguments)
    headers = {"User-Agent": "Muster/0.1", "Accept": "application/json"} | connection.headers
    if not operation.reads_only:
        headers["Idempotency-Key"] = context.call_key
    async with outside_client(may_be_private=connection.may_be_private, timeout=TIMEOUT) as client:
        try:
            async with client.stream(
                operation.method,
                url,
                params=query,
                headers=headers,
                **({"json": body} if body is not None else {}),
            ) as response:
                content = b""
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > LARGEST_BODY:
                        break
        except BlockedAddress as error:
            raise ToolError(str(error)) from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise ToolError(f"{_host(connection)} could not be reached. Nothing was sent.") from (
                error
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            broke = f"{_host(connection)} broke the connection ({type(error).__name__})."
            raise (ToolError(broke) if operation.reads_only else UnknownEffect(broke)) from error
    return _result(connection, operation, response, content)


def _request(
    connection: ServerConnection, operation: Operation, arguments: JSON
) -> tuple[str, JSON, Any]:
    """URL, query and JSON body: path places first, then `query` and `body`, then the rest."""
    left = dict(arguments)

    def fill(place: "re.Match[str]") -> str:
        value = str(left.pop(place[1]))
        if value in ("", ".", ".."):
            raise ToolError(f"{place[1]} must not be {value!r}.")
        return quote(value, safe="")

    url = connection.url.rstrip("/") + _PLACE.sub(fill, operation.path)
    has_body = operation.method in ("POST", "PUT", "PATCH")
    described = operation.schema.get("properties", {})
    query, body = {}, None
    if "query" not in arguments or described.get("query", {}).get("type") == "object":
        query = dict(left.pop("query", None) or {})
    if has_body and described.get("body", {}).get("type") == "object":
        body = left.pop("body", None)
    if has_body:
        body = left if body is None else (body | left if isinstance(body, dict) else body)
    else:
        query |= left
    return url, query | connection.parameters, body


def _result(
    connection: ServerConnection, operation: Operation, response: httpx2.Response, content: bytes
) -> Any:
    text = content[:LARGEST_BODY].decode(errors="replace")
    if connection.secret:
        text = text.replace(connection.secret, "•••")  # an echo must not tell it
    if response.is_redirect:
        said = f"{_host(connection)} answered with a redirect, which is not followed."
        if operation.reads_only:
            raise ToolError(said)
        return {"status": response.status_code, "note": said}
    if response.status_code in (502, 504) and not operation.reads_only:
        raise UnknownEffect(f"{_host(connection)} answered {response.status_code}: a gateway.")
    if response.status_code >= 400:
        raise ToolError(f"{_host(connection)} answered {response.status_code}: {text[:2000]}")
    try:
        body = read_json(text) if text.strip() else None
    except ValueError:
        body = text
    return {"status": response.status_code, "body": body}


def _host(connection: ServerConnection) -> str:
    return httpx2.URL(connection.url).host or connection.url


async def discover(connection: ServerConnection) -> list[Operation]:
    """A REST API does not say what it offers: its operations are described by people."""
    raise NotImplementedError
