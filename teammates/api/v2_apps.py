"""v2: apps of the catalog and their connections (contract v2 2.8)."""

from ninja import Router, Status

from teammates.access import Access
from teammates.api.schemas import ApiRequest, Input, iso, whole
from teammates.api.scopes import exact_scope, scope_for_writing
from teammates.errors import NotFound, Unsuitable
from teammates.integrations import discovery, server_lookup, servers
from teammates.integrations.app_catalog import CATALOG
from teammates.models import ServerStatus, ToolServer
from teammates.types import JSON

router = Router()


# --- apps ---------------------------------------------------------------------------------------


class ConnectKeyIn(Input):
    api_key: str
    user_id: str | None = None


class ConnectIn(Input):
    redirect_uri: str = ""
    connection_id: str | None = None
    claim_ticket: str | None = None
    code: str | None = None
    agent_id: int | None = None
    user_id: str | None = None
    add_account: bool = False


@router.get("/apps", tags=["apps"])
def list_apps(request: ApiRequest, user_id: str | None = None) -> JSON:
    """The whole catalog, and the account's own servers as apps of the kind `custom`."""
    access = request.auth.for_end_user(user_id)
    own = {server.slug: server for server in ToolServer.objects.visible_to(access).order_by("id")}
    rows = [
        _app_out(
            app.name,
            app.display_name,
            app.category,
            connected=_is_up(own.get(app.name)),
            documentation=app.documentation_url,
            guidance=app.key_guidance,
            label=app.key_label,
            is_popular=app.is_popular,
        )
        for app in CATALOG.values()
    ]
    rows += [
        _app_out(slug, server.name, "custom", connected=_is_up(server))
        for slug, server in own.items()
        if slug not in CATALOG
    ]
    return whole(rows)


def _is_up(server: ToolServer | None) -> bool:
    return server is not None and server.status == ServerStatus.ACTIVE


def _app_out(
    name: str,
    title: str,
    category: str,
    *,
    connected: bool,
    documentation: str = "",
    guidance: str = "",
    label: str = "API key",
    is_popular: bool = False,
) -> JSON:
    return {
        "name": name,
        "key": name,
        "display_name": title,
        "category": category,
        "use_case_category": category,
        "kind": "custom" if category == "custom" else "app",
        "connected": connected,
        "auth_type": "api_key",
        "logo_url": None,
        "api_key_documentation_url": documentation or None,
        "api_key_guidance": guidance or None,
        "api_key_label": label,
        "oauth_available": False,
        "region_options": None,
        "is_popular": is_popular,
    }


@router.post("/apps/{name}/connect/api-key", tags=["apps"])
def connect_app(request: ApiRequest, name: str, payload: ConnectKeyIn) -> JSON:
    """Connect an app with a key; again replaces the key."""
    access = scope_for_writing(request, payload.user_id, is_strict=False)
    server = servers.connect_app(access, name, payload.api_key)
    return {"status": "connected", "app": server.app}


@router.post("/apps/{name}/connect", tags=["apps"], operation_id="connect_app_by_oauth")
@router.post("/apps/{name}/connect/complete", tags=["apps"], operation_id="complete_oauth")
@router.post("/apps/{name}/provision", tags=["apps"], operation_id="provision_app")
def connect_otherwise(request: ApiRequest, name: str, payload: ConnectIn | None = None) -> JSON:
    """Every app here is connected with a key; none by OAuth, none is provisioned."""
    app = servers.get_app(name)
    raise Unsuitable(
        f"{app.display_name} is connected with a key: POST /apps/{name}/connect/api-key."
    )


@router.get("/apps/connections", tags=["apps"])
def list_all_connections(request: ApiRequest, user_id: str | None = None) -> JSON:
    return _connections(exact_scope(request, user_id, is_strict=False))


class ConnectionChange(Input):
    label: str | None = None
    notes: str | None = None


@router.patch("/apps/connections/{connection_id}", tags=["apps"])
def update_connection(
    request: ApiRequest,
    connection_id: int,
    payload: ConnectionChange,
    user_id: str | None = None,
) -> JSON:
    """Name a connection, or say what it is for; an empty text takes that back."""
    access, server = _connection(request, connection_id, user_id)
    changes: JSON = {}
    if payload.label is not None:
        changes["name"] = payload.label or CATALOG[server.app].display_name
    if payload.notes is not None:
        changes["description"] = payload.notes
    return connection_out(servers.update_server(access, server, **changes))


@router.delete("/apps/connections/{connection_id}", response={204: None}, tags=["apps"])
def delete_connection(
    request: ApiRequest, connection_id: int, user_id: str | None = None
) -> Status[None]:
    """Disconnect one connection and forget its key."""
    servers.delete_server(*_connection(request, connection_id, user_id))
    return Status(204, None)


def _connection(
    request: ApiRequest, connection_id: int, user_id: str | None
) -> tuple[Access, ToolServer]:
    access = exact_scope(request, user_id, is_strict=False)
    server = server_lookup.get_server(access, connection_id)
    if not server.app:
        raise NotFound("There is no such connection.", code="apps.not_found")
    return access, server


@router.get("/apps/{name}/connections", tags=["apps"])
def list_connections(request: ApiRequest, name: str, user_id: str | None = None) -> JSON:
    servers.get_app(name)
    return _connections(exact_scope(request, user_id, is_strict=False), name)


@router.delete("/apps/{name}/connections", response={204: None}, tags=["apps"])
def disconnect_app(request: ApiRequest, name: str, user_id: str | None = None) -> Status[None]:
    """Remove the connection and its key; again is fine."""
    servers.get_app(name)
    access = exact_scope(request, user_id, is_strict=False)
    for server in ToolServer.objects.visible_to(access).filter(app=name):
        servers.delete_server(access, server)
    return Status(204, None)


@router.get("/apps/{name}/tools", tags=["apps"])
def list_app_tools(request: ApiRequest, name: str) -> JSON:
    """What an app can do, and whether it asks. What an MCP server offers is known once it is
    connected."""
    app = servers.get_app(name)
    known = ToolServer.objects.visible_to(request.auth).filter(app=name).first()
    operations = known.described if known else discovery.read_operations(app.operations)
    is_trusted = known is not None and known.auto_approve
    rows = [
        {
            "slug": one.name,
            "name": one.title or one.name.replace("_", " "),
            "description": one.description,
            "read_only": one.reads_only,
            "approval_mode": "never"
            if one.reads_only
            else "depends_on_input"
            if is_trusted
            else "always",
        }
        for one in operations
    ]
    return whole(rows)


@router.get("/apps/{name}/triggers", tags=["apps"])
def list_app_triggers(request: ApiRequest, name: str) -> JSON:
    """No app starts runs by itself here; webhooks do."""
    servers.get_app(name)
    return whole([])


def _connections(access: Access, name: str | None = None) -> JSON:
    rows = ToolServer.objects.visible_to(access).exclude(app="").order_by("-id")
    if name is not None:
        rows = rows.filter(app=name)
    return whole([connection_out(server) for server in rows])


def connection_out(server: ToolServer) -> JSON:
    own_name = server.name if server.name != CATALOG[server.app].display_name else None
    return {
        "id": server.pk,
        "connection_id": str(server.uid),
        "app_key": server.app,
        "provider": server.app,
        "kind": "app",
        "account_label": own_name,
        "status": "active" if _is_up(server) else "expired",
        "account_id": None,
        "accessible_customers": None,
        "scopes": [],
        "name": server.app,
        "label": own_name,
        "notes": server.description or None,
        "updated_at": iso(server.updated_at),
    }
