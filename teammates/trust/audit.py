"""The audit log: requests by programs and people, and what verbs changed for them.

Requests are written by the middleware, with how they ended. Changes are written by the verbs, in
their transaction: whichever door somebody came through, who, with which credential, from where, and
what was before and after. Secrets are not in it.
"""

import functools
import json
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from django.db import transaction
from django.db.models import Model

from config.compiled import CompiledInsert
from teammates.access import Access
from teammates.access_cache import cache as access_cache
from teammates.errors import Invalid
from teammates.fields import hash_secret
from teammates.models import AuditEntry, Document, EndUser, Membership, Memory, User
from teammates.text import clean_text
from teammates.trust import client
from teammates.types import JSON

P = ParamSpec("P")
T = TypeVar("T")
AUTH = ("all", "api_key", "dashboard")
# Paths whose resource has another name than their first segment without its plural.
RESOURCES = {"teammates": "agent", "teammate-templates": "agent_template", "settings": "settings"}
VERBS = {"POST": "create", "PUT": "set", "PATCH": "update", "DELETE": "delete"}
LONGEST_PATH = 500
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


_ENTRY = CompiledInsert(AuditEntry)


def record(access: Access, *, method: str, path: str, status: int, duration_ms: int) -> None:
    """Write down one request; `path` is what follows the API's prefix."""
    path = clean_text(path)
    resource, resource_id, action = _named(method, path.strip("/").split("/"))
    _ENTRY.save(
        AuditEntry(
            organization=access.organization,
            user=access.user,
            **_credential(access),
            **_client(),
            method=method,
            path=f"/{path.strip('/')}"[:LONGEST_PATH],
            status=status,
            duration_ms=duration_ms,
            resource_type=resource[:50],
            resource_id=resource_id[:255],
            action=f"{resource}.{action}"[:100],
        )
    )


def _credential(access: Access) -> dict[str, str]:
    return {"key_prefix": access.api_key.prefix if access.api_key else ""}


def _client() -> dict[str, str]:
    sender = client.current()
    return {"door": sender.door, "address": sender.address[:45], "agent": clean_text(sender.agent)}


# --- changes ------------------------------------------------------------------------------------
HIDDEN = "•••"
LONGEST_VALUE = 500
_SECRET = re.compile(r"hash|secret|password|api_key$|environment|nonce|token|auth_config")
_DULL = frozenset({"id", "uid", "created_at", "updated_at", "organization_id"})
# What is not copied out of these rows: it is private, or must be gone once it is deleted.
_PRIVATE: dict[type[Model], frozenset[str]] = {
    EndUser: frozenset({"name", "email", "company", "metadata"}),
    Memory: frozenset({"content", "same_as"}),
    Document: frozenset({"content", "summary"}),
}


def recorded(
    action: str,
    *,
    makes: type[Model] | None = None,
    of: Callable[[Any], Model | None] | None = None,
    of_organization: bool = False,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A verb whose every success is written down as `action` (resource.verb), in its transaction,
    with what it changed. Costs three statements: for what people set up, not for runs.

    The verb's first argument is the access. The row that it is about is the last row among the
    others; what `of` finds of that; of a verb that `makes` rows of a class, the one it returns; or
    the organization.
    """

    def of_verb(verb: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(verb)
        def with_record(*args: P.args, **kwargs: P.kwargs) -> T:
            access, *others = args
            assert isinstance(access, Access)
            with transaction.atomic():
                given = next((one for one in reversed(others) if isinstance(one, Model)), None)
                if of_organization:
                    row: Model | None = access.organization
                elif of is not None:
                    row = of(given)
                else:
                    row = None if makes else given
                pk, before = row and row.pk, _values(row)
                made = verb(*args, **kwargs)
                target = row or _row_in(made, makes or Model)
                changes = _difference(before, _values(target))
                note(access, action, target or given, changes=changes, pk=pk)
                # This process need not be told what it did itself.
                transaction.on_commit(access_cache.clear)
            return made

        return with_record

    return of_verb


def note(
    access: Access | None,
    action: str,
    row: Model | None = None,
    *,
    user: User | None = None,
    changes: JSON | None = None,
    pk: Any = None,
    refused: bool = False,
) -> None:
    """Write down a change, or that somebody was `refused`. Without an access, of `user`, in each of
    their organizations. `pk`: of a row that is gone by now."""
    if access is not None:
        places, who, credential = [access.organization.pk], access.user, _credential(access)
    else:
        memberships = Membership.objects.filter(user=user)
        places, who, credential = list(memberships.values_list("organization", flat=True)), user, {}
    end_user_id = _end_user_of(row)
    if end_user_id is None and access is not None and access.end_user is not None:
        end_user_id = access.end_user.pk
    AuditEntry.objects.bulk_create(
        AuditEntry(
            organization_id=place,
            user=who,
            end_user_id=end_user_id,
            action=action,
            **credential,
            **_client(),
            resource_type=action.partition(".")[0],
            subject=_subject(row),
            resource_id=str(pk or (row and row.pk) or ""),
            changes=changes or None,
            status=403 if refused else 200,
        )
        for place in places
    )


def _subject(row: Model | None) -> str:
    return "" if row is None or isinstance(row, Memory) else clean_text(str(row))[:200]


def _end_user_of(row: Model | None) -> int | None:
    return row.pk if isinstance(row, EndUser) else getattr(row, "end_user_id", None)


def _row_in(made: Any, kind: type[Model]) -> Model | None:
    """The row of a class in what a verb returns: itself, or one of a tuple."""
    rows = made if isinstance(made, tuple) else (made,)
    return next((one for one in rows if isinstance(one, kind)), None)


def _values(row: Model | None) -> JSON:
    """What the database has of a row, as JSON has it; nothing once it is gone."""
    if row is None or row.pk is None:
        return {}
    kept = type(row)._base_manager.filter(pk=row.pk)
    found = kept.values().first()
    if found is None:
        return {}
    for field in type(row)._meta.many_to_many:
        chosen = kept.filter(**{f"{field.name}__isnull": False}).order_by(field.name)
        found[field.name] = list(chosen.values_list(field.name, flat=True))
    left_out = _DULL | _PRIVATE.get(type(row), frozenset())
    return {name: _shown(name, value) for name, value in found.items() if name not in left_out}


def _shown(name: str, value: Any) -> Any:
    if value in (None, "", [], {}):
        return None
    if _SECRET.search(name):  # whether it is another one, and no more
        return f"{HIDDEN} {hash_secret(str(value))[:6]}"
    if isinstance(value, bool | int):
        return value
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return clean_text(text)[:LONGEST_VALUE]


def _difference(before: JSON, after: JSON) -> dict[str, list[Any]]:
    names = [*before, *(name for name in after if name not in before)]
    pairs = {name: [before.get(name), after.get(name)] for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


# --- words --------------------------------------------------------------------------------------
def _named(method: str, segments: list[str]) -> tuple[str, str, str]:
    """Resource, its id, and what was done to it: POST /runs/7/cancel is run, 7, cancel."""
    if method == "POST" and (of_page := PAGES.get("/".join(segments))):
        return of_page[0], "", of_page[1]
    if segments[0] == "settings" and len(segments) > 2:  # a page: /settings/keys/7/revoke/
        segments = segments[1:]
    first, rest = segments[0], segments[1:]
    rest = [part for segment in rest for part in _id_and_verb(segment)]
    singular = first[:-1] if first.endswith("s") else first
    resource = RESOURCES.get(first, singular).replace("-", "_")
    resource_id = rest[0] if rest and (first == "users" or _is_id(rest[0])) else ""
    words = [word for word in rest if not _is_id(word) and word != resource_id]
    if words and method == "POST":
        return resource, resource_id, words[-1]
    if method == "POST" and resource_id:  # the form of a page about it
        return resource, resource_id, "update"
    if method == "GET":
        verb = "get" if resource_id or words else "list"
    else:
        verb = VERBS.get(method, method.lower())
    return resource, resource_id, ".".join([*words[:1], verb])


def _is_id(segment: str) -> bool:
    return segment.isdecimal() or _UID.fullmatch(segment) is not None


def _id_and_verb(segment: str) -> list[str]:
    """v1 writes both in one: 01a2…:cancel."""
    id, _, verb = segment.partition(":")
    return [id, verb] if verb and _is_id(id) else [segment]


# Resource and verb of the forms whose path names neither.
PAGES = {
    "organization": ("organization", "switch"),
    "settings": ("settings", "update"),
    "settings/account": ("account", "update"),
    "settings/appearance": ("appearance", "update"),
    "settings/models": ("provider", "create"),
    "settings/memories": ("memory", "create"),
    "settings/permissions": ("permission", "create"),
    "settings/apps": ("app", "create"),
    "runs/act": ("runs", "act"),
    "needs-you/approve": ("decisions", "approve"),
    "first-steps/dismiss": ("first_steps", "dismiss"),
}
DONE = {
    "create": "Created",
    "update": "Changed",
    "set": "Set",
    "delete": "Deleted",
    "get": "Looked at",
    "list": "Listed",
    "cancel": "Stopped",
    "retry": "Tried again",
    "archive": "Archived",
    "close": "Closed",
    "share": "Shared",
    "unshare": "Stopped sharing",
    "fork": "Copied",
    "edit": "Edited",
    "next": "Sent at once",
    "send": "Wrote in",
    "answer": "Decided in",
    "new": "Created",
    "rotate": "Renewed",
    "revoke": "Revoked",
    "restore": "Restored",
    "rename": "Renamed",
    "star": "Starred",
    "invite": "Invited to",
    "remove": "Removed",
    "role": "Gave another role to",
    "act": "Changed",
    "save": "Saved",
    "test": "Tested",
    "price": "Set the price of",
    "default": "Made default",
    "key": "Set the key of",
    "switch": "Went to",
    "approve": "Approved",
    "dismiss": "Put away",
    "limits": "Changed the limits of",
    "mode": "Changed the mode of",
    "snooze": "Snoozed",
    "sign_in": "Signed in",
    "wrong_password": "Refused a wrong password of",
    "join": "Joined as",
    "password": "Set a new password of",
    "confirm": "Confirmed the address of",
    "claim": "Claimed",
    "register": "Registered",
    "decide": "Decided",
    "agree": "Agreed to",
    "users": "Said who may use",
    "trust": "Trusted",
    "sign_out_all": "Signed out everywhere:",
    "set_up": "Set up",
    "open": "Opened",
    "erase": "Asked to erase",
    "clear": "Cleared",
    "forget": "Forgot",
    "pause_webhook": "Paused or resumed",
    "senders": "Said who may mail",
    "reencrypt": "Encrypted anew:",
}
THINGS = {
    "session": "",
    "agent": "teammate",
    "server": "app",
    "door": "the door for mails",
    "agent_template": "template",
    "user": "end user",
}


def words_of(entry: AuditEntry) -> str:
    """What was done, as people say it: Created a teammate."""
    thing = THINGS.get(entry.resource_type, entry.resource_type).replace("_", " ").replace("-", " ")
    verb = entry.action.rpartition(".")[2]
    said = DONE.get(verb) or f"{verb.replace('_', ' ').replace('-', ' ').capitalize()}:"
    return f"{said} {thing}".strip()


def list_entries(
    access: Access, *, auth: str = "all", only_requests: bool = False, **filters: Any
) -> Any:
    """The organization's entries, newest first; `filters` are fields that must be equal, None for
    any. Raises `Invalid` for another `auth` than `AUTH`."""
    access.require("org.audit_read")
    if auth not in AUTH:
        raise Invalid(f"auth must be one of {', '.join(AUTH)}.")
    wanted = {name: value for name, value in filters.items() if value is not None}
    entries = AuditEntry.objects.filter(organization=access.organization, **wanted)
    if only_requests:
        entries = entries.filter(door__in=("v2", "page", "")).exclude(method="")
    if auth == "api_key":
        entries = entries.exclude(key_prefix="")
    elif auth == "dashboard":
        entries = entries.filter(key_prefix="")
    return entries.order_by("-id")
