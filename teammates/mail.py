"""Mails about accounts, sent at once. What runs have to tell is in `runs/notices.py`."""

import logging
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.template.loader import render_to_string

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


def send(to: str, subject: str, template: str, context: dict[str, Any]) -> bool:
    """Mail what `templates/emails/<template>.txt` says; whether a mail server took it. Without one
    it lies in the data folder."""
    text = render_to_string(f"emails/{template}.txt", context)
    try:
        EmailMessage(" ".join(subject.split()), text, to=[to]).send()
    except OSError:
        logger.exception("“%s” was not mailed to %s", subject, to)
        return False
    return sends()
