"""Mails about accounts, sent at once. What runs have to tell is in `runs/notifications/`."""

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path

from django.conf import settings
from django.core.mail import EmailMessage
from django.template.loader import render_to_string

from teammates.types import JSON

logger = logging.getLogger("muster.mail")


def sends() -> bool:
    """Whether a mail server is set; else mails are files in the data folder."""
    return not settings.EMAIL_BACKEND.endswith("filebased.EmailBackend")


def public_url() -> str:
    """Where links in mails lead: the address that people use; without a setting, the one this
    server listens on. Never what a request says of itself."""
    return str(settings.PUBLIC_URL or settings.SERVED_AT).rstrip("/")


def forget_kept(before: datetime) -> None:
    """Delete the mails in the data folder that are older."""
    for file in Path(settings.EMAIL_FILE_PATH).glob("*.log"):
        with suppress(OSError):  # another worker was faster
            if file.stat().st_mtime < before.timestamp():
                file.unlink()


def send(to: str, subject: str, template: str, context: JSON) -> bool:
    """Mail what `templates/emails/<template>.txt` says; whether a mail server gets it. Without one
    it lies in the data folder.

    Nobody waits for the mail server: neither whoever asked, nor, by how long it took, a stranger
    who wants to know whether there was anything to send.
    """
    text = render_to_string(f"emails/{template}.txt", context)
    message = EmailMessage(" ".join(subject.split()), text, to=[to])
    if settings.EMAIL_BACKEND.endswith("smtp.EmailBackend"):
        _postmen().submit(_hand_over, message)
        return True
    return _hand_over(message) and sends()


def _hand_over(message: EmailMessage) -> bool:
    try:
        message.send()
    except OSError:  # what SMTP refuses is one too
        logger.exception("“%s” was not mailed to %s", message.subject, ", ".join(message.to))
        return False
    return True


@cache
def _postmen() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, thread_name_prefix="mail")
