"""Servers of tools: added, tested, changed, and what they offer to a run."""

import re
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify

from teammates import budget, programs
from teammates.access import Access
from teammates.errors import Conflict, Forbidden, Invalid, NotFound
from teammates.integrations.app_catalog import CATALOG, App
from teammates.models import (
    AuthType,
    EndUser,
    Organization,
    PermissionPolicy,
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
from teammates.tools import GROUPS, REGISTRY, rest, servers
from teammates.tools.base import Tool
from teammates.tools.servers import MOST_OPERATIONS, Operation, ServerConnection, ServerError
from teammates.trust import audit

READ_SECONDS = 1  # of work for the schemas of a server
FAILING_SECONDS = 15  # until a server that did not answer is asked again
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
@audit.recorded("server.create")
def add_server(
    access: Access,
    *,
    name: str,
    kind: str = ServerKind.REST_API,
    url: str = "",
    command: list[str] | None = None,
    environment: str = "",
    auth_type: str = AuthType.NONE,
    auth_config: dict[str, Any] | None = None,
    secret: str | None = None,
    tool_defs: list[Any] | None = None,
    description: str | None = None,
    auto_approve: bool = False,
    used_by: str = UsedBy.ADMINS,
    app: str = "",
    slug: str = "",
    may_be_private: bool = False,
) -> ToolServer:
    """Add a server to the scope of `access`; `checks.ask_server` has it asked what it offers.

    `may_be_private`: an address of this network is fine; for people who run the machine.
    Raises `Invalid`, `Forbidden`, `Conflict` (slug taken).
    """
    access.require("data.mcp_configs.manage")
    if kind not in ServerKind.values:
        raise Invalid(f"kind must be one of {', '.join(ServerKind.values)}.")
    server = ToolServer(
        organization=access.organization,
        end_user=access.end_user,
        kind=kind,
        app=app,
        created_by=access.user,
        may_be_private=may_be_private and _runs_the_machine(access),
    )
    _apply(
        access,
        server,
        {
            "name": name,
            "url": url,
            "command": command or [],
            "environment": environment,
            "auth_type": auth_type,
            "auth_config": auth_config or {},
            "secret": secret,
            "tool_defs": tool_defs or [],
            "description": description or "",
            "auto_approve": auto_approve,
            "used_by": used_by,
        },
    )
    server.slug = slug or slugify(server.name)[:40].strip("-")
    if not server.slug:
        raise Invalid("name must contain a letter or a digit.")
    # Tools are named after the slug with _ for -: two that differ in that alone would be one.
    alike = {server.slug.replace("-", "_"), server.slug.replace("_", "-")}
    same_scope = ToolServer.objects.filter(
        organization=access.organization, end_user=access.end_user
    )
    taken = (
        server.slug in GROUPS
        or server.slug in REGISTRY
        or any(
            other.replace("-", "_") in alike for other in same_scope.values_list("slug", flat=True)
        )
    )
    try:
        if taken:
            raise IntegrityError
        with transaction.atomic():
            server.save()
    except IntegrityError:
        raise Conflict(
            f"There is a server {server.slug!r} already; choose another name.",
            code="mcp_servers.duplicate",
        ) from None
    return server


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


def _is_another(server: ToolServer, changes: dict[str, Any]) -> bool:
    """Whether changes lead to another server: another program, or any other address, since many
    servers may share a host."""
    if "command" in changes and [str(word) for word in changes["command"]] != server.command:
        return True
    return "url" in changes and changes["url"].strip() != server.url


def forget_permissions(server: ToolServer) -> None:
    """What was allowed for its tools, and for all of them at once."""
    names = [server.slug, *(tool.name for tool in tools_of(server))]
    PermissionPolicy.objects.filter(
        organization=server.organization, end_user=server.end_user, tool__in=names
    ).delete()


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


def get_server(access: Access, server_id: int) -> ToolServer:
    """Raises `NotFound`."""
    found: ToolServer | None = (
        ToolServer.objects.visible_to(access).select_related("end_user").filter(pk=server_id)
    ).first()
    if found is None:
        raise NotFound("There is no such server.", code="mcp_servers.not_found")
    return found


def connect_app(access: Access, name: str, api_key: str) -> ToolServer:
    """Connect an app of the catalog with a key; again replaces the key. Raises `NotFound`."""
    access.require("data.mcp_configs.manage")
    app = get_app(name)
    if not api_key.strip():
        raise Invalid("api_key must not be empty.")
    known = ToolServer.objects.visible_to(access).filter(app=name).first()
    if known is not None:
        return update_server(access, known, secret=api_key, status=ServerStatus.ACTIVE)
    return add_server(
        access,
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


def get_app(name: str) -> App:
    """Raises `NotFound`."""
    if name not in CATALOG:
        raise NotFound(f"There is no app {name!r}.", code="apps.not_found")
    return CATALOG[name]


def _apply(access: Access, server: ToolServer, changes: dict[str, Any]) -> None:
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


def _checked_auth(auth_type: str, config: dict[str, Any]) -> dict[str, Any]:
    header = config.get("header_name")
    if auth_type == AuthType.CUSTOM_HEADER and not re.fullmatch(
        r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", str(header or "")
    ):
        raise Invalid("auth_config.header_name must name a header.")
    return config


def _check_program(access: Access, server: ToolServer) -> None:
    """A program is code on this machine: only its owners set one up, and never through a key."""
    is_owner = _runs_the_machine(access) and access.role == Role.OWNER
    if not is_owner or access.api_key is not None:
        raise Forbidden(
            "Programs on this machine are set up by owners of the installation's own "
            "organization, signed in themselves and not through a key."
        )
    if not server.command or not server.command[0].strip():
        raise Invalid("command must name a program.")
    if refusal := programs.refusal(server.command):
        raise Forbidden(refusal)


def _runs_the_machine(access: Access) -> bool:
    return access.is_admin and access.organization.is_home and access.end_user is None


def read_operations(given: list[Any]) -> list[Operation]:
    """`tool_defs` as operations. Raises `Invalid` naming the entry."""
    if len(given) > MOST_OPERATIONS:
        raise Invalid(f"tool_defs must have at most {MOST_OPERATIONS} entries.")
    try:
        return budget.within(READ_SECONDS, rest.read_operations, given)
    except ValueError as error:
        raise Invalid(f"{error}.") from None
    except budget.TooCostly:
        raise Invalid("tool_defs: the schemas are too complicated.") from None


# --- health -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Checked:
    """What asking a server for its tools gave."""

    operations: list[Operation]
    error: str = ""


async def ask(connection: ServerConnection) -> Checked:
    """What the server offers; a failure is a value."""
    try:
        return Checked(await servers.discover(connection))
    except ServerError as error:
        return Checked([], str(error))


def difference(before: list[Operation], now: list[Operation]) -> dict[str, list[str]]:
    """Names of the tools that came, went and changed; empty if none did, or none were known."""
    was, are = ({one.name: one for one in side} for side in (before, now))
    if not was or was == are:
        return {}
    return {
        "added": [name for name in are if name not in was],
        "removed": [name for name in was if name not in are],
        "changed": [name for name in are if name in was and are[name] != was[name]],
    }


def is_fresh(server: ToolServer, seconds: float) -> bool:
    """Whether the server was asked within the last `seconds`; a failing one is asked more often."""
    if server.checked_at is None:
        return False
    if server.is_failing:
        seconds = min(seconds, FAILING_SECONDS)
    return (timezone.now() - server.checked_at).total_seconds() < seconds


def record_check(server: ToolServer, checked: Checked) -> Checked:
    """Keep what a check gave. A server that fails keeps the tools it had, hidden."""
    if server.status == ServerStatus.DISABLED:
        return checked
    fields: dict[str, Any] = {"checked_at": timezone.now(), "status_reason": checked.error[:500]}
    fields["status"] = ServerStatus.FAILING if checked.error else ServerStatus.ACTIVE
    if not checked.error:
        fields["operations"] = [one.to_json() for one in checked.operations]
        if difference(server.described, checked.operations):
            # People trusted what it said before.
            fields["auto_approve"] = False
            forget_permissions(server)
    # Only what was asked is what is described: somebody may have changed the address meanwhile.
    asked = ToolServer.objects.filter(pk=server.pk, url=server.url, command=server.command)
    asked.exclude(status=ServerStatus.DISABLED).update(**fields, updated_at=timezone.now())
    for name, value in fields.items():
        setattr(server, name, value)
    return checked


# --- what runs get ------------------------------------------------------------------------------
def servers_of(
    organization: Organization,
    end_user: EndUser | None,
    names: list[str],
    *,
    by: int | None,
    teammate_id: int,
) -> list[ToolServer]:
    """The servers that `names` mean in exactly this scope, those that are off left out. Each says
    whether it `may_be_used` by the user `by` (None: the organization's keys) through a teammate."""
    if not names:
        return []
    found = ToolServer.objects.filter(organization=organization, end_user=end_user, slug__in=names)
    found = found.exclude(status=ServerStatus.DISABLED).order_by("id")
    return list(found.with_use(by, teammate_id))


def tools_of(server: ToolServer) -> list[Tool]:
    """A server's tools, also when it is failing."""
    return servers.tools_of(
        server.slug,
        server.name,
        server.connection,
        server.described,
        is_trusted=server.auto_approve,
    )


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


def check_tools(organization: Organization, end_user: EndUser | None, names: list[str]) -> None:
    """Raise `Invalid` naming a tool that does not exist: neither an app of the catalog nor a
    server, of this end user where one is given."""
    unknown = [name for name in names if name not in CATALOG]
    if not unknown:
        return
    # A teammate of the account works for many end users, each with connections of their own.
    known = ToolServer.objects.filter(organization=organization, slug__in=unknown)
    if end_user is not None:
        known = known.filter(end_user_id=end_user.pk or 0)
    found = set(known.values_list("slug", flat=True))
    for name in unknown:
        if name in REGISTRY or name in GROUPS:
            raise Invalid(
                f"tools: {name!r} is built in and always there; disabled_builtin_tools takes it "
                "away."
            )
        if name not in found:
            raise Invalid(f"tools: there is no tool {name!r}.")


def teammates_with(*attached: ToolServer) -> dict[str, list[Teammate]]:
    """Who uses servers of one organization, by their slugs; archived ones left out. One query."""
    using: dict[str, list[Teammate]] = {server.slug: [] for server in attached}
    if not attached:
        return using
    found = Teammate.objects.current().filter(
        organization=attached[0].organization_id, version__tools__has_any_keys=list(using)
    )
    for teammate in found.select_related("version").order_by("id"):
        for slug in using.keys() & set(teammate.current_version.tools):
            using[slug].append(teammate)
    return using


def visible_servers(access: Access) -> list[ToolServer]:
    """The first 200 by name; those of end users for who manages end users."""
    found = ToolServer.objects.filter(organization=access.organization)
    if not access.may("data.end_users.manage"):
        found = found.filter(end_user=None)
    return list(found.select_related("end_user").order_by("name", "id")[:200])
