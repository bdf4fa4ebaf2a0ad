"""What tools may do without asking: an organization's settings, and its standing permissions."""

import json
from collections.abc import Iterable
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from config.compiled import Hole, compiled
from teammates.access import Access
from teammates.errors import Invalid, NotFound
from teammates.integrations.server_lookup import tools_of
from teammates.models import (
    EndUser,
    Organization,
    PermissionPolicy,
    PolicySource,
    ToolMode,
    ToolServer,
    ToolSetting,
)
from teammates.tools.base import Tool
from teammates.trust import audit
from teammates.types import JSON

LONGEST_TOOL = 255
LONGEST_WAIT = 60 * 24 * 365  # minutes until an approval expires


# --- settings -----------------------------------------------------------------------------------
@compiled
def _settings_of(organization_id: Hole) -> "QuerySet[ToolSetting]":
    return ToolSetting.objects.filter(organization=organization_id)


def settings_of(organization: Organization) -> dict[str, ToolSetting]:
    return {row.tool: row for row in _settings_of.all(organization_id=organization.pk)}


def switched_off(settings: Iterable[ToolSetting]) -> list[str]:
    return [setting.tool for setting in settings if setting.mode == ToolMode.OFF]


@audit.recorded("tool.set")
def set_tool(
    access: Access, tool: str, *, mode: str, approvals: int = 1, expires_after: int | None = None
) -> ToolSetting:
    """How the organization uses a tool. `expires_after`: minutes until an open approval counts as
    denied; None waits for ever. Raises `Invalid`, `Forbidden`."""
    access.require("data.permissions.manage")
    if mode not in ToolMode.values:
        raise Invalid(f"mode must be one of {', '.join(ToolMode.values)}.")
    if approvals not in (1, 2):
        raise Invalid("approvals must be 1 or 2.")
    if expires_after is not None and not 1 <= expires_after <= LONGEST_WAIT:
        raise Invalid(f"expires_after must be 1 to {LONGEST_WAIT} minutes, or empty.")
    setting, _ = ToolSetting.objects.update_or_create(
        organization=access.organization,
        tool=tool,
        defaults={"mode": mode, "approvals": approvals, "expires_after": expires_after},
    )
    return setting


# --- standing permissions -----------------------------------------------------------------------
@audit.recorded("permission.create")
def allow_tool(
    access: Access,
    tool: str,
    *,
    pattern: JSON | None = None,
    source: PolicySource = PolicySource.API,
) -> tuple[PermissionPolicy, bool]:
    """Let a tool act without asking in the scope of `access`; returns the policy and whether it is
    new.

    `pattern` maps arguments to the text they must equal, `*` standing for any text. Raises
    `Invalid`, `Forbidden`.
    """
    access.require("data.permissions.manage")
    tool = tool.strip()
    if not 1 <= len(tool) <= LONGEST_TOOL:
        raise Invalid(f"tool must have 1 to {LONGEST_TOOL} characters.")
    scope: JSON = {
        "organization": access.organization,
        "end_user": access.end_user,
        "tool": tool,
        "pattern": _checked_pattern(pattern or {}),
    }
    if known := PermissionPolicy.objects.filter(**scope).first():
        return known, False
    try:
        with transaction.atomic():
            made = PermissionPolicy.objects.create(**scope, source=source, created_by=access.user)
            return made, True
    except IntegrityError:  # somebody was as fast
        return PermissionPolicy.objects.get(**scope), False


def revoke(access: Access, policy_id: int) -> None:
    """Take a permission back; what it let through stays on record. Raises `NotFound`."""
    access.require("data.permissions.manage")
    with transaction.atomic():
        policy = PermissionPolicy.objects.visible_to(access).filter(pk=policy_id).first()
        if policy is None or not PermissionPolicy.objects.filter(pk=policy.pk).delete()[0]:
            raise NotFound("There is no such permission.", code="permissions.not_found")
        audit.note(access, "permission.revoke", policy)


def covering(
    organization: Organization, end_user: EndUser | None, tool: Tool, arguments: Any
) -> PermissionPolicy | None:
    """The permission that lets this call through in exactly this scope, if there is one.

    It names the tool, or the server that the tool comes from.
    """
    named = [tool.name, *([tool.server] if tool.server else [])]
    policies = PermissionPolicy.objects.filter(
        organization=organization, end_user=end_user, tool__in=named
    ).order_by("id")
    return next((policy for policy in policies if fits(policy.pattern, arguments)), None)


def fits(pattern: dict[str, str], arguments: Any) -> bool:
    """Whether every argument that `pattern` names is as it says."""
    return all(
        isinstance(arguments, dict)
        and name in arguments
        and _matches(text, _as_text(arguments[name]))
        for name, text in pattern.items()
    )


def _matches(pattern: str, text: str) -> bool:
    """Whether `text` is `pattern`, with any text for each `*`. In linear time: no regex."""
    first, *middle = pattern.split("*")
    if not middle:
        return text == pattern
    last = middle.pop()
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _checked_pattern(pattern: JSON) -> dict[str, str]:
    if len(pattern) > 20:
        raise Invalid("pattern must name at most 20 arguments.")
    for name, text in pattern.items():
        if not isinstance(text, str) or not 1 <= len(text) <= 1000 or not name.strip():
            raise Invalid("pattern must map arguments to texts of 1 to 1000 characters.")
        if text.count("*") > 5:
            raise Invalid(f"pattern: {name} has more than five *.")
    return pattern


def forget_permissions(server: ToolServer) -> None:
    """What was allowed for its tools, and for all of them at once."""
    names = [server.slug, *(tool.name for tool in tools_of(server))]
    PermissionPolicy.objects.filter(
        organization=server.organization, end_user=server.end_user, tool__in=names
    ).delete()
