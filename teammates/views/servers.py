"""Pages of apps: the servers that tools come from."""

import json
import shlex

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from teammates.access import Access
from teammates.errors import DomainError, Invalid, NotFound
from teammates.forms.tools import ServerForm, UsersForm
from teammates.integrations import checks, server_lookup, servers, tool_policies
from teammates.integrations.app_catalog import CATALOG
from teammates.models import (
    ServerKind,
    ServerStatus,
    ToolServer,
)
from teammates.types import Context
from teammates.web.pages import PageRequest, add_refusal

# --- servers ------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
def server_list(request: PageRequest) -> HttpResponse:
    """Connected servers, the catalog, and the form for one's own."""
    access = request.access
    form = ServerForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            is_home = access.organization.is_home
            new = servers.NewServer(**form.fields_of_server, may_be_private=is_home)
            server = servers.add_server(access, new)
        except DomainError as error:
            add_refusal(form, error)
        else:
            return _asked(request, server)
    connected = server_lookup.visible_servers(access)
    used = {server.app for server in connected if server.end_user_id is None}
    return render(
        request,
        "settings/server_list.html",
        {
            "servers": connected,
            "catalog": [app for app in CATALOG.values() if app.name not in used],
            "form": form,
            "is_home": access.organization.is_home,
            "may_manage": access.may("data.mcp_configs.manage"),
        },
        status=422 if form.errors else 200,
    )


@require_POST
def app_connect(request: PageRequest, name: str) -> HttpResponse:
    server = servers.connect_app(request.access, name, request.POST.get("api_key", ""))
    return _asked(request, server)


def _asked(request: PageRequest, server: ToolServer) -> HttpResponse:
    """To the server's page, which shows the answer when it comes."""
    checks.ask_server(request.access, server)
    if server.kind == ServerKind.REST_API:
        count = len(server.described)
        tools_ = "1 tool" if count == 1 else f"{count} tools"
        messages.success(
            request,
            f"{server.name} is saved with {tools_}. Nothing was called yet: a REST API does not "
            "say what it offers, so its key shows at the first call.",
        )
    return redirect("teammates:server_detail", server_id=server.pk)


@require_http_methods(["GET", "POST"])
def server_detail(request: PageRequest, server_id: int) -> HttpResponse:
    """One server: how it is, what it offers, who uses it."""
    access = request.access
    server = _find_server(access, server_id)
    form = ServerForm(request.POST or None, initial=_initial(server), server=server)
    if request.method == "POST" and form.is_valid():
        try:
            changes = form.fields_of_server
            changes.pop("kind")
            server = servers.update_server(access, server, **changes)
        except DomainError as error:
            add_refusal(form, error)
        else:
            return _asked(request, server)
    settings = tool_policies.settings_of(access.organization)
    return render(
        request,
        "settings/server_detail.html",
        {
            "server": server,
            "rows": [(tool, settings.get(tool.name)) for tool in server_lookup.tools_of(server)],
            "teammates": server_lookup.teammates_with(server)[server.slug],
            "form": form,
            "users_form": UsersForm(server),
            "may_manage": access.may("data.mcp_configs.manage"),
        },
        status=422 if form.errors else 200,
    )


def _initial(server: ToolServer) -> Context:
    definitions = [
        {
            "name": one.name,
            "method": one.method,
            "path": one.path,
            "description": one.description,
            "parameters": one.schema,
        }
        for one in server.described
    ]
    return {
        "name": server.name,
        "kind": server.kind,
        "url": server.url,
        "command": shlex.join(server.command),
        "auth_type": server.auth_type,
        "auth_name": server.connection.auth_name,
        "description": server.description,
        "tool_defs": json.dumps(definitions, indent=1)
        if server.kind == ServerKind.REST_API
        else "",
    }


@require_POST
def server_users(request: PageRequest, server_id: int) -> HttpResponse:
    """Set who may use a server."""
    server = _find_server(request.access, server_id)
    form = UsersForm(server, request.POST)
    if not form.is_valid():
        raise Invalid("Choose who may use it.")
    servers.set_users(
        request.access,
        server,
        used_by=form.cleaned_data["used_by"],
        people=list(form.cleaned_data["people"]),
        teammates=list(form.cleaned_data["teammates"]),
    )
    messages.success(request, f"Who may use {server.name} is saved. It counts from now on.")
    return redirect("teammates:server_detail", server_id=server.pk)


@require_POST
def server_act(request: PageRequest, server_id: int) -> HttpResponse:
    """Test, trust, switch or remove a server."""
    access = request.access
    server = _find_server(access, server_id)
    act = request.POST.get("act", "")
    scope = access.for_end_user(server.end_user.external_id if server.end_user else None)
    if act == "test":
        return _asked(request, server)
    if act == "delete":
        servers.delete_server(scope, server)
        messages.success(request, f"{server.name} is removed, and its credential with it.")
        return redirect("teammates:server_list")
    changes: dict[str, Context] = {
        "trust": {"auto_approve": True},
        "distrust": {"auto_approve": False},
        "off": {"status": ServerStatus.DISABLED},
        "on": {"status": ServerStatus.ACTIVE},
    }
    if act not in changes:
        raise Invalid("Choose what to do.")
    servers.update_server(scope, server, **changes[act])
    messages.success(request, f"{server.name} is saved.")
    return redirect("teammates:server_detail", server_id=server.pk)


def _find_server(access: Access, server_id: int) -> ToolServer:
    found = ToolServer.objects.filter(organization=access.organization, pk=server_id)
    if not access.may("data.end_users.manage"):
        found = found.filter(end_user=None)
    server: ToolServer | None = found.select_related("end_user", "organization").first()
    if server is None:
        raise NotFound("There is no such server.")
    return server
