"""Addresses of teammates, and who may write to them."""

import secrets

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from teammates.errors import Invalid


def new_inbox_name() -> str:
    return secrets.token_hex(8)


def check_sender(sender: str) -> None:
    """Raise `Invalid` unless it is a mail address, or a domain as `@example.com`."""
    try:
        validate_email(f"somebody{sender}" if sender.startswith("@") else sender)
    except ValidationError:
        raise Invalid(
            f"allowed_senders: {sender[:100]!r} is neither an address nor a domain as @example.com."
        ) from None
