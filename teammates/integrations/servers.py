"""Servers of tools: added, tested, changed, and what they offer to a run."""

import re
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.text import slugify

from teammates import programs
from teammates.access import Access
from teammates.errors import Conflict, Forbidden, Invalid, NotFound
from teammates.integrations.app_catalog import CATALOG, App
from teammates.integrations.discovery import read_operations
from teammates.integrations.server_lookup import tools_of
from teammates.integrations.tool_policies import forget_permissions
from teammates.models import (
    AuthType,
    Role,
    ServerKind,
    ServerStatus,
    Teammate,
    ToolServer,
    ToolSetting,
    UsedBy,
    User,
)
from teammates.public_http import check_url
from teammates.tools import GROUPS, REGISTRY
from teammates.trust import audit
from teammates.types import JSON

CHANGEABLE = (
    "name",
    "url",
    "auth_type",
    "auth_config",
    "secret",
    "tool_defs",
    "description",
    "status",
    "auto_approve",
    "command",
    "environment",
    "used_by",
)


# --- verbs --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class NewServer:
    """What a server is made of; `kind` and the rest as the columns of `ToolServer` say."""

    name: str
    kind: str = ServerKind.REST_API
    url: str = ""
    command: list[str] = field(default_factory=list)
    environment: str = ""
    auth_type: str = AuthType.NONE
    auth_config: JSON = field(default_factory=dict)
    secret: str | None = None
    tool_defs: list[Any] = field(default_factory=list)
    description: str = ""
    auto_approve: bool = False
    used_by: str = UsedBy.ADMINS
    app: str = ""  # of the catalog
    slug: str = ""  # empty: made of the name
    may_be_private: bool = False  # in this network; only for people who run the machine


@audit.recorded("server.create")
def add_server(access: Access, new: NewServer) -> ToolServer:
    """Add a server to the scope of `access`; `checks.ask_server` has it asked what it offers.

    Raises `Invalid`, `Forbidden`, `Conflict` (slug taken).
    """
    access.require("data.mcp_configs.manage")
    if new.kind not in ServerKind.values:
        raise Invalid(f"kind must be one of {', '.join(ServerKind.values)}.")
    server = ToolServer(
        organization=access.organization,
        end_user=access.end_user,
        kind=new.kind,
        app=new.app,
        created_by=access.user,
        may_be_private=new.may_be_private and access.runs_the_installation,
    )
    _apply(access, server, {name: getattr(new, name) for name in CHANGEABLE if name != "status"})
    server.slug = new.slug or slugify(server.name)[:40].strip("-")
    if not server.slug:
        raise Invalid("name must contain a letter or a digit.")
    try:
        with transaction.atomic():
            _refuse_taken_slug(server)
            server.save()
    except IntegrityError:
        raise _taken(server) from None
    return server


def _refuse_taken_slug(server: ToolServer) -> None:
    """Tools are named after the slug with _ for -: two that differ in that alone would be one."""
    same_scope = ToolServer.objects.filter(
        organization=server.organization, end_user=server.end_user
    )
    wanted = server.slug.replace("-", "_")
    others = same_scope.values_list("slug", flat=True)
    is_built_in = server.slug in GROUPS or server.slug in REGISTRY
    if is_built_in or any(other.replace("-", "_") == wanted for other in others):
        raise _taken(server)


def _taken(server: ToolServer) -> Conflict:
    return Conflict(
        f"There is a server {server.slug!r} already; choose another name.",
        code="mcp_servers.duplicate",
    )


@audit.recorded("server.update")
def update_server(access: Access, server: ToolServer, **changes: Any) -> ToolServer:
    """Change what is given; `secret` None clears it. Raises `Invalid`, `Forbidden`."""
    access.require("data.mcp_configs.manage", server)
    with transaction.atomic():
        locked: ToolServer = (
            ToolServer.objects.select_for_update(of=("self",), no_key=True)
            .select_related("end_user")
            .get(pk=server.pk)
        )
        is_another = _is_another(locked, changes)
        if is_another:  # what was given to one is not for another
            changes = {"secret": None, "environment": "", "auto_approve": False} | changes
            forget_permissions(locked)
        _apply(access, locked, changes)
        if is_another:
            locked.checked_at = None
            if locked.kind != ServerKind.REST_API:
                locked.operations = []  # what another server said
        locked.save()
    return locked


def _is_another(server: ToolServer, changes: JSON) -> bool:
    """Whether changes lead to another server: another program, or any other address, since many
    servers may share a host."""
    if "command" in changes and [str(word) for word in changes["command"]] != server.command:
        return True
    return "url" in changes and changes["url"].strip() != server.url


def trust_server(access: Access, server: ToolServer) -> ToolServer:
    """Its tools ask only where a run's mode says so."""
    return update_server(access, server, auto_approve=True)


@audit.recorded("server.delete")
def delete_server(access: Access, server: ToolServer) -> None:
    """Remove a server with its credential, and what was allowed or set for its tools: another one
    of that name is not covered by it."""
    access.require("data.mcp_configs.manage", server)
    names = [server.slug, *(tool.name for tool in tools_of(server))]
    with transaction.atomic():
        forget_permissions(server)
        ToolSetting.objects.filter(organization=server.organization, tool__in=names).delete()
        server.delete()


def connect_app(access: Access, name: str, api_key: str) -> ToolServer:
    """Connect an app of the catalog with a key; again replaces the key. Raises `NotFound`."""
    access.require("data.mcp_configs.manage")
    app = get_app(name)
    if not api_key.strip():
        raise Invalid("api_key must not be empty.")
    known = ToolServer.objects.visible_to(access).filter(app=name).first()
    if known is not None:
        return update_server(access, known, secret=api_key, status=ServerStatus.ACTIVE)
    new = NewServer(
        name=app.display_name,
        kind=app.kind,
        url=app.url,
        auth_type=app.auth_type,
        auth_config=dict(app.auth_config),
        secret=api_key,
        tool_defs=app.operations,
        app=app.name,
        slug=app.name,
    )
    return add_server(access, new)


def get_app(name: str) -> App:
    """Raises `NotFound`."""
    if name not in CATALOG:
        raise NotFound(f"There is no app {name!r}.", code="apps.not_found")
    return CATALOG[name]


def _apply(access: Access, server: ToolServer, changes: JSON) -> None:
    """Check and set fields. An address or credential that changed is to be tested anew."""
    if "name" in changes:
        server.name = _checked_name(changes["name"])
    if "description" in changes:
        server.description = (changes["description"] or "")[:1000]
    if "status" in changes:
        if changes["status"] not in (ServerStatus.ACTIVE, ServerStatus.DISABLED):
            raise Invalid("status must be active or disabled.")
        server.status, server.status_reason = changes["status"], ""
    if changes.get("used_by", UsedBy.ADMINS) not in UsedBy.values:
        raise Invalid(f"used_by must be one of {', '.join(UsedBy.values)}.")
    for plain in ("auto_approve", "environment", "used_by"):
        if plain in changes:
            setattr(server, plain, changes[plain])
    if "secret" in changes:
        server.secret = (changes["secret"] or "").strip()
    if "auth_type" in changes:
        if changes["auth_type"] not in AuthType.values:
            raise Invalid(f"auth_type must be one of {', '.join(AuthType.values)}.")
        server.auth_type = changes["auth_type"]
    if "auth_config" in changes:
        server.auth_config = _checked_auth(server.auth_type, changes["auth_config"])
    elif "auth_type" in changes:
        _checked_auth(server.auth_type, server.auth_config)
    if "command" in changes:
        server.command = [str(word) for word in changes["command"]]
    if "url" in changes:
        server.url = changes["url"].strip()
    if server.kind == ServerKind.MCP_STDIO:
        _check_program(access, server)
    elif "url" in changes:
        is_private = server.may_be_private or settings.ALLOW_PRIVATE_ADDRESSES
        check_url(server.url, may_be_private=is_private)
    if "tool_defs" in changes and server.kind == ServerKind.REST_API:
        server.operations = [one.to_json() for one in read_operations(changes["tool_defs"])]


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if not 1 <= len(name) <= 200:
        raise Invalid("name must have 1 to 200 characters.")
    return name


def _checked_auth(auth_type: str, config: JSON) -> JSON:
    header = config.get("header_name")
    if auth_type == AuthType.CUSTOM_HEADER and not re.fullmatch(
        r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", str(header or "")
    ):
        raise Invalid("auth_config.header_name must name a header.")
    return config


def _check_program(access: Access, server: ToolServer) -> None:
    """A program is code on this machine: only its owners set one up, and never through a key."""
    is_owner = access.runs_the_installation and access.role == Role.OWNER
    if not is_owner or access.api_key is not None:
        raise Forbidden(
            "Programs on this machine are set up by owners of the installation's own "
            "organization, signed in themselves and not through a key."
        )
    if not server.command or not server.command[0].strip():
        raise Invalid("command must name a program.")
    if refusal := programs.refusal(server.command):
        raise Forbidden(refusal)


@audit.recorded("server.users")
def set_users(
    access: Access,
    server: ToolServer,
    *,
    used_by: str,
    people: list[User] | None = None,
    teammates: list[Teammate] | None = None,
) -> None:
    """Say whose runs get a server's tools, with its credential: a kind of members, and `people`
    besides; with `teammates`, only runs of those. Raises `Forbidden`, `Invalid`."""
    access.require("data.mcp_configs.manage", server)
    if used_by not in UsedBy.values:
        raise Invalid(f"used_by must be one of {', '.join(UsedBy.values)}.")
    members = access.organization.memberships.values_list("user", flat=True)
    if foreign := {person.pk for person in people or []} - set(members):
        raise Invalid(f"people: {len(foreign)} of them are no members.")
    if any(one.organization_id != access.organization.pk for one in teammates or []):
        raise Invalid("teammates: choose teammates of this organization.")
    with transaction.atomic():
        server.used_by = used_by
        server.save(update_fields=["used_by", "updated_at"])
        server.used_by_people.set(people or [])
        server.used_by_teammates.set(teammates or [])
