"""Teammates: made, edited, archived. Every edit of what they are told is a new version."""

import re
import secrets
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify

from teammates.access import Access
from teammates.errors import Conflict, Invalid
from teammates.integrations import server_lookup
from teammates.llm import catalog, sampling
from teammates.models import (
    Effort,
    EndUser,
    Organization,
    PermissionMode,
    PromptProfile,
    Teammate,
    TeammateStatus,
    TeammateVersion,
    User,
    Visibility,
)
from teammates.roster.addresses import check_sender, new_inbox_name
from teammates.roster.lookup import refuse_archived, require_editor
from teammates.trust import audit
from teammates.types import JSON

VERSION_FIELDS = (
    "role",
    "goals",
    "instructions",
    "model",
    "effort",
    "sampling",
    "permission_mode",
    "tools",
    "disabled_tools",
    "memory",
    "history",
    "task_setup_tools",
    "feedback",
    "self_improvement",
    "prompt_profile",
)
# What is not versioned: who may see it, how it is reached.
PLAIN_FIELDS = (
    "metadata",
    "allowed_senders",
    "visibility",
    "display_order",
    "slack_enabled",
    "slack_slug",
    "slack_senders",
    "imessage_enabled",
    "imessage_chat",
    "imessage_senders",
)
TEXT_LIMIT = 100_000
UNNAMED = "New teammate"
TAKEN = {  # constraint → sentence
    "teammate_slack_slug_once": "slack_slug: another teammate has this name already.",
    "teammate_imessage_chat_once": "imessage_chat_guid: another teammate has this chat already.",
}
BUILT_IN: list[JSON] = [
    {
        "key": "normal",
        "name": "Demo",
        "role": "Shows what a teammate does",
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
            organization=organization,
            key=fields["key"],
            name=fields["name"],
            is_built_in=True,
            visibility=Visibility.ORGANIZATION,
        )
        _add_version(teammate, by=None, fields=version)
        made.append(teammate)
    organization.default_teammate = made[0]
    organization.save(update_fields=["default_teammate"])


class EditedMeanwhile(Conflict):
    """Somebody else saved a newer version while this one was edited."""

    def __init__(self, version: TeammateVersion, base: int | None) -> None:
        who = version.created_by.display_name if version.created_by else "Somebody"
        super().__init__(
            f"{who} saved v{version.number} while you edited v{base}. Nothing of yours is lost: "
            "look at what changed, then save again to put yours on top.",
            code="teammates.edited_meanwhile",
        )
        self.version = version


@audit.recorded("agent.create")
def create_teammate(
    access: Access,
    *,
    name: str | None = None,
    end_user: EndUser | None = None,
    email_inbox: bool = False,
    template_slug: str = "",
    **fields: Any,
) -> Teammate:
    """Make a teammate with its first version, from `VERSION_FIELDS` and `PLAIN_FIELDS`.

    Raises `Forbidden`, `Invalid`, `Conflict` if another has its Slack name or iMessage chat.
    """
    access.require("data.runs.write")
    replace(access, end_user=end_user).require_scope()
    if email_inbox:
        access.require_confirmed()
    plain, version = _checked(access.organization, end_user, fields)
    name = _checked_name(name) if name is not None else UNNAMED
    with transaction.atomic(), _saying_what_is_taken():
        teammate = _insert_with_free_key(
            organization=access.organization,
            end_user=end_user,
            created_by=access.user,
            name=name,
            template_slug=template_slug,
            inbox_name=new_inbox_name() if email_inbox else "",
            **plain,
        )
        _add_version(teammate, by=access.user, fields=version)
    return teammate


@audit.recorded("agent.update")
def update_teammate(
    access: Access,
    teammate: Teammate,
    *,
    name: str | None = None,
    base: int | None = None,
    **changes: Any,
) -> Teammate:
    """Change what is given; a change of `VERSION_FIELDS` makes the next version.

    `base` is the number of the version that was edited. Raises `EditedMeanwhile` if there is a
    newer one, `Forbidden`, `Invalid`, `Conflict`, and `NotFound` for an archived teammate.
    """
    require_editor(access, teammate)
    plain, version = _checked(teammate.organization, teammate.end_user, changes)
    with transaction.atomic(), _saying_what_is_taken():
        locked = lock(teammate)
        refuse_archived(locked)
        if base not in (None, locked.current_version.number):
            raise EditedMeanwhile(locked.current_version, base)
        if name is not None:
            locked.name = _checked_name(name)
        for field, value in plain.items():
            setattr(locked, field, value)
        locked.save()
        before = {f: getattr(locked.current_version, f) for f in VERSION_FIELDS}
        after = before | version
        if after != before:
            _add_version(locked, by=access.user, fields=after)
    return locked


def reset_teammate(
    access: Access, teammate: Teammate, *, to: JSON, fields: list[str] | None
) -> list[str]:
    """Reset versioned fields to what a template says: those named, or all that differ.

    Returns the names of what changed; raises `Invalid` for a name that the template has not.
    """
    if unknown := sorted(set(fields or []) - set(to)):
        raise Invalid(f"fields: the template says nothing about {', '.join(unknown)}.")
    version = teammate.current_version
    changed = {
        name: value
        for name, value in to.items()
        if getattr(version, name) != value and (fields is None or name in fields)
    }
    update_teammate(access, teammate, **changed)
    return sorted(changed)


def set_status(teammate: Teammate, status: TeammateStatus) -> bool:
    """Whether it changed. The caller switches what starts its work."""
    now = timezone.now()
    archived_at = now if status == TeammateStatus.ARCHIVED else None
    others = Teammate.objects.filter(pk=teammate.pk).exclude(status=status)
    changed = others.update(status=status, archived_at=archived_at, updated_at=now)
    teammate.refresh_from_db()
    return bool(changed)


def find_or_create_by_name(
    access: Access, *, name: str, end_user: EndUser | None, **fields: Any
) -> Teammate:
    """v2's quick start: the scope's newest teammate of that name, else a new one."""
    name = _checked_name(name)
    with transaction.atomic():
        # The organization's row is the lock: two quick starts at once make one teammate.
        Organization.objects.select_for_update(no_key=True).get(pk=access.organization.pk)
        mine = Teammate.objects.visible_to(replace(access, end_user=None)).current()
        found = mine.with_version().filter(name=name, end_user=end_user).order_by("-id").first()
        return found or create_teammate(access, name=name, end_user=end_user, **fields)


def lock(teammate: Teammate) -> Teammate:
    return (
        Teammate.objects.select_for_update(of=("self",), no_key=True)
        .with_version()
        .get(pk=teammate.pk)
    )


@contextmanager
def _saying_what_is_taken() -> Iterator[None]:
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        for constraint, words in TAKEN.items():
            if constraint in str(error):
                raise Conflict(words, code="teammates.duplicate") from None
        raise


def _insert_with_free_key(**fields: Any) -> Teammate:
    base = slugify(fields["name"])[:50] or "teammate"
    taken = Teammate.objects.filter(organization=fields["organization"], key=base).exists()
    for key in ([] if taken else [base]) + [f"{base}-{secrets.token_hex(3)}" for _ in range(3)]:
        try:
            with transaction.atomic():
                return Teammate.objects.create(key=key, **fields)
        except IntegrityError as error:
            if "teammate_key_once" not in str(error):
                raise
            continue  # somebody took it in between
    raise Invalid("name: too many teammates have it; choose another.")


def _add_version(teammate: Teammate, *, by: User | None, fields: JSON) -> None:
    last = teammate.versions.order_by("-number").first()
    teammate.version = TeammateVersion.objects.create(
        teammate=teammate, number=last.number + 1 if last else 1, created_by=by, **fields
    )
    teammate.save(update_fields=["version", "updated_at"])


def _checked(
    organization: Organization, end_user: EndUser | None, fields: JSON
) -> tuple[JSON, JSON]:
    """`fields`, as those of the teammate and those of its version. Raises `Invalid`."""
    plain = {name: value for name, value in fields.items() if name in PLAIN_FIELDS}
    version = {name: value for name, value in fields.items() if name not in PLAIN_FIELDS}
    if unknown := version.keys() - set(VERSION_FIELDS):
        raise Invalid(f"Unknown field: {', '.join(sorted(unknown))}.")
    _check_plain(plain)
    _check_version(organization, end_user, version)
    return plain, version


def _check_plain(fields: JSON) -> None:
    for sender in fields.get("allowed_senders") or []:
        check_sender(sender)
    if fields.get("visibility", "personal") not in Visibility.values:
        raise Invalid(f"visibility must be one of {', '.join(Visibility.values)}.")
    order = fields.get("display_order")
    if order is not None and not -(2**31) <= order < 2**31:
        raise Invalid("display_order must fit into 32 bits.")
    for name, longest in (("slack_slug", 100), ("imessage_chat", 255)):
        if len(fields.get(name) or "") > longest:
            raise Invalid(f"{name} must have at most {longest} characters.")


def _check_version(organization: Organization, end_user: EndUser | None, fields: JSON) -> None:
    for name in ("role", "goals", "instructions"):
        if len(fields.get(name) or "") > TEXT_LIMIT:
            raise Invalid(f"{name} must have at most {TEXT_LIMIT} characters.")
    if fields.get("model"):
        catalog.resolve_model(organization, fields["model"])
    if fields.get("effort") and fields["effort"] not in Effort.values:
        raise Invalid(f"effort must be one of {', '.join(Effort.values)}.")
    if "sampling" in fields:
        fields["sampling"] = sampling.checked(fields["sampling"])
    server_lookup.check_tools(organization, end_user, fields.get("tools") or [])
    if fields.get("prompt_profile", "platform") not in PromptProfile.values:
        raise Invalid(f"prompt_profile must be one of {', '.join(PromptProfile.values)}.")
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
