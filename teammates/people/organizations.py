"""Organizations: founded, and their settings."""

from typing import Any

from django.db import transaction
from django.utils.timezone import now

from teammates.access import Access
from teammates.errors import Invalid
from teammates.llm import catalog
from teammates.models import Organization, RetentionMode
from teammates.people import end_users
from teammates.roster import editing
from teammates.trust import audit

# Runs at work at once: of the installation's own organization, and of one that signed up here.
MOST_RUNNING, GUESTS_RUNNING = 100, 25
PER_END_USER = (
    "per_end_user_run_limit",
    "per_end_user_cost_limit_cents",
    "per_end_user_rate_per_minute",
)


def found_organization(
    *, name: str, require_end_user_id: bool = False, is_home: bool = False
) -> Organization:
    """Make an organization that can work at once: demo provider, model aliases, teammates."""
    with transaction.atomic():
        organization = Organization.objects.create(
            name=name,
            require_end_user_id=require_end_user_id,
            is_home=is_home,
            max_running=MOST_RUNNING if is_home else GUESTS_RUNNING,
        )
        catalog.add_built_in(organization)
        editing.add_built_in(organization)
    return organization


def first_organization() -> Organization:
    """The organization of this installation, made on the first start."""
    return Organization.objects.order_by("id").first() or found_organization(
        name="My organization", is_home=True
    )


def settings_of(access: Access) -> Organization:
    access.require("data.runs.read")
    return access.organization


@audit.recorded("settings.update", of_organization=True)
def update_settings(access: Access, **changes: Any) -> Organization:
    """Change settings of the organization, by the names of its fields. Raises `Invalid`."""
    access.require("org.settings.manage")
    for name in PER_END_USER:
        least = 1 if name.endswith("per_minute") else 0
        end_users.check_limit(name, changes.get(name), least=least)
    if changes.get("retention_mode", "standard") not in RetentionMode.values:
        raise Invalid(f"retention_mode must be one of {', '.join(RetentionMode.values)}.")
    organization = access.organization
    mode = changes.get("retention_mode", organization.retention_mode)
    if mode != organization.retention_mode:  # what was said before is not touched
        changes["metadata_only_since"] = now() if mode == RetentionMode.METADATA_ONLY else None
    for name, value in changes.items():
        setattr(organization, name, value)
    organization.save(update_fields=[*changes, "updated_at"])
    return organization
