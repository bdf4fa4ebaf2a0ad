"""The gateway for mail services: one token of each organization."""

import secrets

from runs.inbox.receiving import SHOWN
from teammates.access import Access
from teammates.errors import NotFound
from teammates.fields import hash_secret
from teammates.models import Organization
from teammates.trust import audit


@audit.recorded("door.open", of_organization=True)
def make_token(access: Access) -> str:
    """A new token for whoever hands the organization's mails over, shown once; the old one stops
    working at once."""
    access.require("org.settings.manage")
    access.require_confirmed()
    token = f"mail_{secrets.token_hex(24)}"
    _set_token(access, mail_token_hash=hash_secret(token), mail_token_prefix=token[:SHOWN])
    return token


@audit.recorded("door.close", of_organization=True)
def close_gateway(access: Access) -> None:
    """Nobody hands mails over any more; again is fine."""
    access.require("org.settings.manage")
    _set_token(access, mail_token_hash="", mail_token_prefix="")


def _set_token(access: Access, **fields: str) -> None:
    Organization.objects.filter(pk=access.organization.pk).update(**fields)


def organization_of_token(token: str) -> Organization:
    """Whose mails are handed over with this token. Raises `NotFound`."""
    found = Organization.objects.filter(mail_token_hash=hash_secret(token), closed_at=None).first()
    if found is None:
        raise NotFound("There is no such address.")
    return found
