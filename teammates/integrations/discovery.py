"""What a server offers: asked, compared with what it offered before, kept."""

from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from teammates import timebox
from teammates.errors import Invalid
from teammates.integrations.tool_policies import forget_permissions
from teammates.models import (
    ServerStatus,
    ToolServer,
)
from teammates.tools import rest, servers
from teammates.tools.servers import MOST_OPERATIONS, Operation, ServerConnection, ServerError
from teammates.types import JSON

READ_SECONDS = 1  # of work for the schemas of a server
FAILING_SECONDS = 15  # until a server that did not answer is asked again


def read_operations(given: list[Any]) -> list[Operation]:
    """`tool_defs` as operations. Raises `Invalid` naming the entry."""
    if len(given) > MOST_OPERATIONS:
        raise Invalid(f"tool_defs must have at most {MOST_OPERATIONS} entries.")
    try:
        return timebox.within(READ_SECONDS, rest.read_operations, given)
    except ValueError as error:
        raise Invalid(f"{error}.") from None
    except timebox.TooCostly:
        raise Invalid("tool_defs: the schemas are too complicated.") from None


# --- health -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ServerCheck:
    """What asking a server for its tools gave."""

    operations: list[Operation]
    error: str = ""


async def ask(connection: ServerConnection) -> ServerCheck:
    """What the server offers; a failure is a value."""
    try:
        return ServerCheck(await servers.discover(connection))
    except ServerError as error:
        return ServerCheck([], str(error))


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


def record_check(server: ToolServer, checked: ServerCheck) -> ServerCheck:
    """Keep what a check gave. A server that fails keeps the tools it had, hidden."""
    if server.status == ServerStatus.DISABLED:
        return checked
    fields: JSON = {"checked_at": timezone.now(), "status_reason": checked.error[:500]}
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
