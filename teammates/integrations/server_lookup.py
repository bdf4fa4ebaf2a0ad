"""Servers found, and the tools that they give."""

from teammates.access import Access
from teammates.errors import Invalid, NotFound
from teammates.integrations.app_catalog import CATALOG
from teammates.models import (
    EndUser,
    Organization,
    ServerStatus,
    Teammate,
    ToolServer,
)
from teammates.tools import GROUPS, REGISTRY, servers
from teammates.tools.base import Tool


def get_server(access: Access, server_id: int) -> ToolServer:
    """Raises `NotFound`."""
    found: ToolServer | None = (
        ToolServer.objects.visible_to(access).select_related("end_user").filter(pk=server_id)
    ).first()
    if found is None:
        raise NotFound("There is no such server.", code="mcp_servers.not_found")
    return found


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
