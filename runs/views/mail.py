"""How mails leave and come in, for whoever runs the installation; and those that no server took."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from runs import mail as incoming
from teammates import mail
from teammates.api.schemas import address_of
from teammates.errors import Forbidden, NotFound
from teammates.pages import PageRequest

MOST = 50


@dataclass(frozen=True)
class Kept:
    """A mail that lies in the data folder."""

    name: str
    at: datetime
    to: str
    subject: str
    text: str


@require_GET
def mail_settings(request: PageRequest) -> HttpResponse:
    """The installation's own account alone sees this: the folder has the mails of all."""
    access = request.access
    access.require("org.account.manage")
    if not access.organization.is_home:
        raise Forbidden("Only the owners of the installation's own account see its mails.")
    kept = _kept()
    name = request.GET.get("mail", "")
    chosen = next((one for one in kept if one.name == name), None)
    if name and chosen is None:
        raise NotFound("There is no such mail any more.")
    return render(request, "runs/mail_settings.html", {
        "sends": mail.sends(), "sender": settings.DEFAULT_FROM_EMAIL, "smtp": settings.SMTP,
        "domain": settings.MAIL_DOMAIN, "kept": kept, "chosen": chosen,
        "server": getattr(settings, "EMAIL_HOST", ""),
        "door": f"{address_of(request)}/api/v1/mail/{incoming.http_token()}",
    })  # fmt: skip


def _kept() -> list[Kept]:
    """The newest mails in the folder of the file backend."""
    if mail.sends():
        return []
    found = sorted(Path(settings.EMAIL_FILE_PATH).glob("*.log"), reverse=True)[:MOST]
    return [_read(file) for file in found]


def _read(file: Path) -> Kept:
    """The file backend ends each mail with a line of dashes."""
    message = message_from_bytes(file.read_bytes().rstrip(b"-\n"), policy=policy.default)
    body = message.get_body(preferencelist=("plain",))
    at = datetime.fromtimestamp(file.stat().st_mtime, tz=UTC)
    return Kept(
        file.name, at, str(message["To"]), str(message["Subject"]),
        str(body.get_content()) if body is not None else "",
    )  # fmt: skip
