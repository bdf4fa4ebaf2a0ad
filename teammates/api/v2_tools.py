"""v2: what teammates may use: models, built-in tools, permissions, servers of tools, apps
(contract v2 2.4, 2.9, 2.10)."""

from typing import Annotated, Any

from ninja import Router, Status
from pydantic import Field

from teammates import tools
from teammates.access import Access
from teammates.api.schemas import ApiRequest, Input, Limit, iso, paged, whole
from teammates.api.scopes import exact_scope, scope_for_writing
from teammates.integrations import checks, server_lookup, servers, tool_policies
from teammates.llm import catalog
from teammates.models import Model, PermissionPolicy, Teammate, ToolServer
from teammates.roster import lookup
from teammates.tools.servers import Operation
from teammates.types import JSON

router = Router()


# --- models -------------------------------------------------------------------------------------


@router.get("/models", tags=["models"])
def list_models(request: ApiRequest, zdr: bool = False) -> JSON:
    """The models of this account under the names that runs take, with their prices now."""
    models = catalog.models_of(request.auth)
    shown = [] if zdr else [model_out(model) for model in models.prefetch_related("prices")]
    return whole(shown)


def model_out(model: Model) -> JSON:
    price = model.shown_price
    lanes = (
        {
            "input_per_mtok": price.uncached_input,
            "output_per_mtok": price.output,
            "cache_read_per_mtok": price.cache_read,
            "cache_write_per_mtok": price.cache_write,
        }
        if price
        else {}
    )
    return {
        "id": model.alias,
        "name": model.alias,
        "description": f"{model.name} of {model.provider.name}",
        "provider": model.provider.kind,
        "default": model.is_default,
        "max_effort": model.max_effort,
        "pricing": {name: float(value) for name, value in lanes.items()} | {"currency": "usd"},
        "concrete_id": model.name,
        "runnable": model.provider.is_ready,
        "zdr_supported": False,
        "zdr": False,
        "zdr_providers": [],
        "retention_note": None,
    }


# --- built-in tools -----------------------------------------------------------------------------


@router.get("/built-in-tools", tags=["tools"])
def list_built_in_tools(
    request: ApiRequest, teammate_id: int | None = None, user_id: str | None = None
) -> JSON:
    """The built-in tools as they are switched: for the account, a teammate, an end user."""
    access = request.auth.for_end_user(user_id)
    access.require("data.personas.read")
    off = set(tool_policies.switched_off(tool_policies.settings_of(access.organization).values()))
    switches: dict[str, bool | None] = {}
    if teammate_id is not None:
        version = lookup.get_teammate(request.auth, teammate_id).current_version
        off |= set(version.disabled_tools)
        switches = {
            "memory": version.memory,
            "history": version.history,
            "task_setup_tools": version.task_setup_tools,
            "feedback": version.feedback,
        }
    rows = []
    for group in tools.GROUPS.values():
        is_on = group.name not in off and switches.get(group.name) is not False
        is_on = is_on and not (group.tools and all(tool.name in off for tool in group.tools))
        rows.append(
            {
                "name": group.name,
                "server_name": f"muster_{group.name}",
                "display_name": group.title,
                "description": group.description,
                "enabled": is_on and (group.is_safe_for_end_users or user_id is None),
                "multi_tenant_safe": group.is_safe_for_end_users,
                "configurable": group.configurable,
            }
        )
    return whole(rows)


# --- permissions --------------------------------------------------------------------------------


class PermissionIn(Input):
    tool: Annotated[str, Field(min_length=1, max_length=255)]
    user_id: Annotated[str, Field(min_length=1)] | None = None
    pattern: dict[str, str] = Field(default_factory=dict)


@router.post("/permissions", response={200: JSON, 201: JSON}, tags=["tools"])
def create_permission(request: ApiRequest, payload: PermissionIn) -> Status[JSON]:
    """Let a tool act without asking, perhaps only with certain arguments. Again is fine."""
    access = scope_for_writing(request, payload.user_id)
    policy, is_new = tool_policies.allow_tool(access, payload.tool, pattern=payload.pattern)
    return Status(201 if is_new else 200, permission_out(policy, access))


@router.get("/permissions", tags=["tools"])
def list_permissions(
    request: ApiRequest,
    user_id: str | None = None,
    limit: Limit = 20,
    starting_after: int | None = None,
) -> JSON:
    """Of exactly one scope, newest first."""
    access = exact_scope(request, user_id)
    rows = PermissionPolicy.objects.visible_to(access).order_by("-id")
    return paged(rows, limit, starting_after, lambda policy: permission_out(policy, access))


@router.delete("/permissions/{policy_id}", response={204: None}, tags=["tools"])
def delete_permission(
    request: ApiRequest, policy_id: int, user_id: str | None = None
) -> Status[None]:
    tool_policies.revoke(exact_scope(request, user_id), policy_id)
    return Status(204, None)


def permission_out(policy: PermissionPolicy, access: Access) -> JSON:
    return {
        "id": policy.pk,
        "user_id": access.end_user.external_id if access.end_user else None,
        "tool_name": policy.tool,
        "pattern": policy.pattern,
        "created_at": iso(policy.created_at),
        "source": policy.source,
    }


# --- servers of tools ---------------------------------------------------------------------------


class ServerFields(Input):
    name: str | None = None
    url: str | None = None
    auth_type: str | None = None
    auth_config: JSON | None = None
    secret: str | None = None
    tool_defs: list[Any] | None = None
    description: str | None = None
    auto_approve: bool | None = None
    used_by: str | None = None


class ServerCreate(ServerFields):
    name: str
    url: str = ""
    kind: str = "rest_api"
    user_id: str | None = None
    command: list[str] | None = None


class ServerUpdate(ServerFields):
    status: str | None = None


@router.post("/mcp-servers", response={201: JSON}, tags=["tools"])
def create_server(request: ApiRequest, payload: ServerCreate) -> Status[JSON]:
    """Add a REST API or an MCP server. A worker asks an MCP server what it offers; one that does
    not answer is kept as failing, with the reason."""
    access = scope_for_writing(request, payload.user_id)
    given = payload.dict(exclude={"user_id"})
    new = servers.NewServer(**{k: v for k, v in given.items() if v is not None})
    server = servers.add_server(access, new)
    checks.ask_server(access, server)
    return Status(201, server_out(server))


@router.get("/mcp-servers", tags=["tools"])
def list_servers(request: ApiRequest, user_id: str | None = None) -> JSON:
    access = exact_scope(request, user_id)
    rows = ToolServer.objects.visible_to(access).select_related("end_user").order_by("-id")
    found = list(rows[:200])
    using = server_lookup.teammates_with(*found)
    return whole([server_out(server, using[server.slug]) for server in found])


@router.get("/mcp-servers/{server_id}", tags=["tools"])
def get_server(request: ApiRequest, server_id: int, user_id: str | None = None) -> JSON:
    return server_out(server_lookup.get_server(exact_scope(request, user_id), server_id))


@router.patch("/mcp-servers/{server_id}", tags=["tools"])
def update_server(
    request: ApiRequest, server_id: int, payload: ServerUpdate, user_id: str | None = None
) -> JSON:
    """Change what is given; `secret: null` clears it."""
    access = exact_scope(request, user_id)
    server = server_lookup.get_server(access, server_id)
    given = {
        name: getattr(payload, name)
        for name in payload.model_fields_set & set(servers.CHANGEABLE)
        if name == "secret" or getattr(payload, name) is not None
    }
    return server_out(servers.update_server(access, server, **given))


@router.delete("/mcp-servers/{server_id}", response={204: None}, tags=["tools"])
def delete_server(request: ApiRequest, server_id: int, user_id: str | None = None) -> Status[None]:
    access = exact_scope(request, user_id)
    servers.delete_server(access, server_lookup.get_server(access, server_id))
    return Status(204, None)


@router.post("/mcp-servers/{server_id}/approve", tags=["tools"])
def trust_server(request: ApiRequest, server_id: int, user_id: str | None = None) -> JSON:
    """Trust the server: what it changes asks only where a run's mode does."""
    access = exact_scope(request, user_id)
    return server_out(servers.trust_server(access, server_lookup.get_server(access, server_id)))


def server_out(server: ToolServer, using: list[Teammate] | None = None) -> JSON:
    """A server; `using`: who uses it, looked up for a list at once."""
    using = server_lookup.teammates_with(server)[server.slug] if using is None else using
    return {
        "id": server.pk,
        "slug": server.slug,
        "name": server.name,
        "url": server.url,
        "kind": server.kind,
        "auth_type": server.auth_type,
        "auth_config": server.auth_config,
        "status": server.status,
        "status_reason": server.status_reason or None,
        "description": server.description or None,
        "tool_defs": [operation_out(one) for one in server.described],
        "has_secret": bool(server.secret),
        "auto_approve": server.auto_approve,
        "used_by": server.used_by,
        "user_id": server.end_user.external_id if server.end_user else None,
        "created_at": iso(server.created_at),
        "updated_at": iso(server.updated_at),
        "script_sha256": None,
        "script_allowlist": [],
        "sign_in_host": None,
        "created_by_teammate_id": None,
        "teammate_ids": [teammate.pk for teammate in using],
    }


def operation_out(operation: Operation) -> JSON:
    shown: JSON = {"name": operation.name}
    if operation.method:
        shown |= {"method": operation.method, "path": operation.path}
    return shown | {
        "title": operation.title,
        "description": operation.description,
        "parameters": operation.schema,
    }
