"""The first owner of an installation."""

import secrets

from django.db import transaction
from django.utils.timezone import now

from teammates.errors import Forbidden
from teammates.fields import hash_secret
from teammates.models import Membership, Organization, Role, User
from teammates.people.users import checked_name, create_user
from teammates.trust import audit


def is_set_up() -> bool:
    """Whether this installation has anybody."""
    return Membership.objects.exists()


def make_setup_token(organization: Organization) -> str | None:
    """A one-time token for the owner, or None once there is one. An earlier token dies."""
    if organization.memberships.exists():
        return None
    token = secrets.token_urlsafe(24)
    Organization.objects.filter(pk=organization.pk).update(setup_token_hash=hash_secret(token))
    return token


def organization_of_setup_token(token: str) -> Organization | None:
    if not token:
        return None
    return Organization.objects.filter(setup_token_hash=hash_secret(token)).first()


def set_up_owner(
    *, token: str, organization_name: str, email: str, password: str, timezone: str = "UTC"
) -> User:
    """Claim the installation. Raises `Forbidden` for a used token, `Invalid` for bad fields."""
    with transaction.atomic():
        organization = (
            Organization.objects.select_for_update()
            .filter(setup_token_hash=hash_secret(token or "-"))
            .first()
        )
        if organization is None:
            raise Forbidden("This set-up link was used already. Sign in instead.")
        organization.name = checked_name(organization_name, field="organization_name")
        organization.timezone = timezone
        organization.setup_token_hash = ""
        organization.save(update_fields=["name", "timezone", "setup_token_hash"])
        user = create_user(email=email, password=password)
        user.email_verified_at = now()  # whoever has the link runs this machine
        user.save(update_fields=["email_verified_at"])
        Membership.objects.create(organization=organization, user=user, role=Role.OWNER)
        # What the first start made was nobody's; it is the owner's now.
        organization.api_keys.filter(created_by=None).update(
            created_by=user, is_organizations=False
        )
        audit.note(None, "account.set_up", organization, user=user)
    return user
