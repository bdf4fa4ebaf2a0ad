"""The audit log: every request to the v2 API, by whom, and how it ended."""

from typing import Any

from teammates.access import Access
from teammates.errors import Invalid
from teammates.models import AuditEntry
from teammates.text import clean_text

AUTH = ("all", "api_key", "dashboard")
# Paths whose resource has another name than their first segment without its plural.
RESOURCES = {"teammates": "agent", "teammate-templates": "agent_template", "settings": "settings"}
VERBS = {"POST": "create", "PUT": "set", "PATCH": "update", "DELETE": "delete"}
LONGEST_PATH = 500


def record(access: Access, *, method: str, path: str, status: int, duration_ms: int) -> None:
    """Write down one request; `path` is what follows the API's prefix."""
    path = clean_text(path)
    resource, resource_id, action = _named(method, path.strip("/").split("/"))
    AuditEntry.objects.create(
        organization=access.organization, user=access.user,
        key_prefix=access.api_key.prefix if access.api_key else "",
        method=method, path=f"/{path.strip('/')}"[:LONGEST_PATH], status=status,
        duration_ms=duration_ms, resource_type=resource[:50], resource_id=resource_id[:255],
        action=f"{resource}.{action}"[:100],
    )  # fmt: skip


def _named(method: str, segments: list[str]) -> tuple[str, str, str]:
    """Resource, its id, and what was done to it: POST /runs/7/cancel is run, 7, cancel."""
    if method == "POST" and (of_page := PAGES.get("/".join(segments))):
        return of_page[0], "", of_page[1]
    if segments[0] == "settings" and len(segments) > 2:  # a page: /settings/keys/7/revoke/
        segments = segments[1:]
    first, rest = segments[0], segments[1:]
    singular = first[:-1] if first.endswith("s") else first
    resource = RESOURCES.get(first, singular).replace("-", "_")
    resource_id = rest[0] if rest and (first == "users" or rest[0].isdecimal()) else ""
    words = [word for word in rest if not word.isdecimal() and word != resource_id]
    if words and method == "POST":
        return resource, resource_id, words[-1]
    if method == "POST" and resource_id:  # the form of a page about it
        return resource, resource_id, "update"
    if method == "GET":
        verb = "get" if resource_id or words else "list"
    else:
        verb = VERBS.get(method, method.lower())
    return resource, resource_id, ".".join([*words[:1], verb])


# Resource and verb of the forms whose path names neither.
PAGES = {
    "organization": ("organization", "switch"), "settings": ("settings", "update"),
    "settings/account": ("account", "update"), "settings/appearance": ("appearance", "update"),
    "settings/models": ("provider", "create"), "settings/memories": ("memory", "create"),
    "settings/permissions": ("permission", "create"), "settings/apps": ("app", "create"),
    "runs/act": ("runs", "act"), "needs-you/approve": ("decisions", "approve"),
    "first-steps/dismiss": ("first_steps", "dismiss"),
}  # fmt: skip
DONE = {
    "create": "Created", "update": "Changed", "set": "Set", "delete": "Deleted", "get": "Looked at",
    "list": "Listed", "cancel": "Stopped", "retry": "Tried again", "archive": "Archived",
    "close": "Closed", "share": "Shared", "unshare": "Stopped sharing", "fork": "Copied",
    "edit": "Edited", "next": "Sent at once", "send": "Wrote in", "answer": "Decided in",
    "new": "Created", "rotate": "Renewed", "revoke": "Revoked", "restore": "Restored",
    "rename": "Renamed", "star": "Starred", "invite": "Invited to", "remove": "Removed",
    "role": "Gave another role to", "act": "Changed", "save": "Saved", "test": "Tested",
    "price": "Set the price of", "default": "Made default", "key": "Set the key of",
    "switch": "Went to", "approve": "Approved", "dismiss": "Put away",
    "limits": "Changed the limits of", "mode": "Changed the mode of", "snooze": "Snoozed",
}  # fmt: skip
THINGS = {"agent": "teammate", "agent_template": "template", "user": "end user"}


def words_of(entry: AuditEntry) -> str:
    """What was done, as people say it: Created a teammate."""
    thing = THINGS.get(entry.resource_type, entry.resource_type).replace("_", " ").replace("-", " ")
    verb = entry.action.rpartition(".")[2]
    said = DONE.get(verb) or f"{verb.replace('_', ' ').replace('-', ' ').capitalize()}:"
    return f"{said} {thing}".strip()


def list_entries(access: Access, *, auth: str = "all", **filters: Any) -> Any:
    """The organization's entries, newest first; `filters` are fields that must be equal, None for
    any. Raises `Invalid` for another `auth` than `AUTH`."""
    access.require("org.audit_read")
    if auth not in AUTH:
        raise Invalid(f"auth must be one of {', '.join(AUTH)}.")
    wanted = {name: value for name, value in filters.items() if value is not None}
    entries = AuditEntry.objects.filter(organization=access.organization, **wanted)
    if auth == "api_key":
        entries = entries.exclude(key_prefix="")
    elif auth == "dashboard":
        entries = entries.filter(key_prefix="")
    return entries.order_by("-id")
