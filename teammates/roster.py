"""Teammates: made, edited, archived. Every edit of what they are told is a new version."""

import re
import secrets
import unicodedata
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify

from teammates import connections, servers
from teammates.access import Access
from teammates.errors import Invalid, NotFound
from teammates.models import (
    Effort,
    EndUser,
    Organization,
    PermissionMode,
    Teammate,
    TeammateStatus,
    TeammateVersion,
    User,
)

VERSION_FIELDS = (
    "role", "goals", "instructions", "model", "effort", "permission_mode", "tools",
    "disabled_tools", "memory", "history", "task_setup_tools", "feedback",
)  # fmt: skip
TEXT_LIMIT = 100_000
UNNAMED = "New teammate"

BUILT_IN: list[dict[str, Any]] = [
    {
        "key": "normal",
        "name": "Demo",
        "role": "Shows what a teammate does, without any AI",
        "instructions": "Answer briefly. Use your tools when they help.",
    },
    {
        "key": "lite",
        "name": "Demo Lite",
        "role": "Short answers",
        "instructions": "Answer in one or two sentences.",
    },
    {
        "key": "work",
        "name": "Demo Careful",
        "role": "Asks before it changes something",
        "instructions": "Work carefully. Ask before you change something.",
        "permission_mode": PermissionMode.APPROVAL,
    },
]


def add_built_in(organization: Organization) -> None:
    """The teammates of a new organization; the first is its default."""
    made = []
    for fields in BUILT_IN:
        version = {k: v for k, v in fields.items() if k in VERSION_FIELDS}
        teammate = Teammate.objects.create(
            organization=organization, key=fields["key"], name=fields["name"], is_built_in=True
        )
        _add_version(teammate, by=None, fields=version)
        made.append(teammate)
    organization.default_teammate = made[0]
    organization.save(update_fields=["default_teammate"])


def create_teammate(
    organization: Organization,
    *,
    by: User | None,
    name: str | None = None,
    end_user: EndUser | None = None,
    metadata: dict[str, Any] | None = None,
    allowed_senders: list[str] | None = None,
    email_inbox: bool = False,
    **fields: Any,
) -> Teammate:
    """Make a teammate with its first version from `VERSION_FIELDS`. Raises `Invalid`."""
    _check_version(organization, end_user, fields)
    name = _checked_name(name) if name is not None else UNNAMED
    with transaction.atomic():
        teammate = _insert_with_free_key(
            organization=organization,
            end_user=end_user,
            created_by=by,
            name=name,
            metadata=metadata,
            allowed_senders=allowed_senders,
        )
        if email_inbox:
            set_inbox(teammate, enabled=True)
        _add_version(teammate, by=by, fields=fields)
    return teammate


def update_teammate(
    teammate: Teammate,
    *,
    by: User | None,
    name: str | None = None,
    metadata: dict[str, Any] | None = None,
    allowed_senders: list[str] | None = None,
    **changes: Any,
) -> Teammate:
    """Change what is given; a change of `VERSION_FIELDS` makes the next version.

    Raises `Invalid`, and `NotFound` for an archived teammate.
    """
    _check_version(teammate.organization, teammate.end_user, changes)
    with transaction.atomic():
        locked = (
            Teammate.objects.select_for_update(of=("self",), no_key=True)
            .with_version()
            .get(pk=teammate.pk)
        )
        _refuse_archived(locked)
        if name is not None:
            locked.name = _checked_name(name)
        if metadata is not None:
            locked.metadata = metadata
        if allowed_senders is not None:
            locked.allowed_senders = allowed_senders
        locked.save()
        before = {f: getattr(locked.current_version, f) for f in VERSION_FIELDS}
        after = before | changes
        if after != before:
            _add_version(locked, by=by, fields=after)
    return locked


def set_inbox(teammate: Teammate, *, enabled: bool) -> Teammate:
    """Give a teammate an e-mail address, or take it away; again changes nothing."""
    if enabled != bool(teammate.inbox_name):
        teammate.inbox_name = secrets.token_hex(8) if enabled else ""
        teammate.save(update_fields=["inbox_name", "updated_at"])
    return teammate


def archive_teammate(teammate: Teammate) -> Teammate:
    """Take a teammate out of service; again is fine. Its runs stay."""
    Teammate.objects.filter(pk=teammate.pk).exclude(status=TeammateStatus.ARCHIVED).update(
        status=TeammateStatus.ARCHIVED, archived_at=timezone.now(), updated_at=timezone.now()
    )
    teammate.refresh_from_db()
    return teammate


def require_editor(access: Access, teammate: Teammate) -> None:
    """Raise `Forbidden` unless the asker manages teammates or made this one."""
    access.require("data.runs.write")
    if teammate.created_by_id is None or teammate.created_by_id != getattr(access.user, "pk", None):
        access.require("data.personas.manage")


def get_teammate(access: Access, teammate_id: int) -> Teammate:
    """Raises `NotFound`."""
    found = Teammate.objects.visible_to(access).with_version().filter(pk=teammate_id).first()
    if found is None:
        raise NotFound("There is no such teammate.", code="teammates.not_found")
    return found


def get_persona(organization: Organization, persona_id: str) -> tuple[Teammate, TeammateVersion]:
    """A v1 persona, `key` or `key@version`. Raises `NotFound`."""
    key, at, number = persona_id.partition("@")
    teammate = (
        Teammate.objects.current().with_version().filter(organization=organization, key=key).first()
    )
    if teammate is None:
        raise NotFound(f"There is no persona {key!r}.", code="personas.not_found")
    if not at:
        return teammate, teammate.current_version
    found = (
        teammate.versions.filter(number=int(number)).first()
        if number.isdecimal() and len(number) < 9
        else None
    )
    if found is None:
        raise NotFound(
            f"Persona {key!r} has no version {number!r}.", code="personas.version_mismatch"
        )
    return teammate, found


def default_teammate(organization: Organization) -> Teammate:
    """Who answers when nobody is named. Raises `NotFound` if all are archived."""
    current = Teammate.objects.current().with_version().filter(organization=organization)
    found = (
        current.filter(pk=organization.default_teammate_id or 0).first()
        or current.filter(end_user=None, status=TeammateStatus.ENABLED).order_by("id").first()
    )
    if found is None:
        raise NotFound("There is no teammate yet; create one.", code="personas.not_found")
    return found


def find_or_create_by_name(
    organization: Organization,
    *,
    name: str,
    by: User | None,
    end_user: EndUser | None,
    **fields: Any,
) -> Teammate:
    """v2's quick start: the scope's newest teammate of that name, else a new one."""
    name = _checked_name(name)
    with transaction.atomic():
        # The organization's row is the lock: two quick starts at once make one teammate.
        Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
        found = (
            Teammate.objects.current()
            .with_version()
            .filter(organization=organization, name=name, end_user=end_user)
            .order_by("-id")
            .first()
        )
        return found or create_teammate(organization, name=name, by=by, end_user=end_user, **fields)


def _refuse_archived(teammate: Teammate) -> None:
    if teammate.is_archived:
        raise NotFound("This teammate is archived.", code="teammates.not_found")


def _insert_with_free_key(**fields: Any) -> Teammate:
    base = slugify(fields["name"])[:50] or "teammate"
    taken = Teammate.objects.filter(organization=fields["organization"], key=base).exists()
    for key in ([] if taken else [base]) + [f"{base}-{secrets.token_hex(3)}" for _ in range(3)]:
        try:
            with transaction.atomic():
                return Teammate.objects.create(key=key, **fields)
        except IntegrityError:  # somebody took it in between
            continue
    raise Invalid("name: too many teammates have it; choose another.")


def _add_version(teammate: Teammate, *, by: User | None, fields: dict[str, Any]) -> None:
    last = teammate.versions.order_by("-number").first()
    teammate.version = TeammateVersion.objects.create(
        teammate=teammate, number=last.number + 1 if last else 1, created_by=by, **fields
    )
    teammate.save(update_fields=["version", "updated_at"])


def _check_version(
    organization: Organization, end_user: EndUser | None, fields: dict[str, Any]
) -> None:
    unknown = fields.keys() - set(VERSION_FIELDS)
    if unknown:
        raise Invalid(f"Unknown field: {', '.join(sorted(unknown))}.")
    for name in ("role", "goals", "instructions"):
        if len(fields.get(name) or "") > TEXT_LIMIT:
            raise Invalid(f"{name} must have at most {TEXT_LIMIT} characters.")
    if fields.get("model"):
        connections.resolve_model(organization, fields["model"])
    if fields.get("effort") and fields["effort"] not in Effort.values:
        raise Invalid(f"effort must be one of {', '.join(Effort.values)}.")
    servers.check_tools(organization, end_user, fields.get("tools") or [])
    if fields.get("permission_mode", "autonomous") not in PermissionMode.values:
        raise Invalid(f"permission_mode must be one of {', '.join(PermissionMode.values)}.")


def _checked_name(name: str) -> str:
    """1 to 255 characters, at least one of them visible (contract v2 2.2)."""
    name = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", name)).strip()
    invisible = {"\u3164", "\u2800", "\u1160", "\u115f"}
    if not any(unicodedata.category(c)[0] in "LNPS" and c not in invisible for c in name):
        raise Invalid("name must contain a visible character.")
    if len(name) > 255:
        raise Invalid("name must have at most 255 characters.")
    return name
