"""How mails leave and come in; and those that no server took, for whoever runs the machine."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from runs.inbox import gateway
from teammates.api.schemas import address_of
from teammates.errors import Invalid, NotFound
from teammates.people import account_mail
from teammates.web.pages import PageRequest

MOST = 50
LARGEST_HEAD = 16 * 1024  # bytes


@dataclass(frozen=True)
class StoredMail:
    """A mail that lies in the data folder."""

    name: str
    at: datetime
    sender: str
    answers_to: str
    to: str
    subject: str
    text: str


@require_http_methods(["GET", "POST"])
def mail_settings(request: PageRequest) -> HttpResponse:
    """How mails leave and come in. POST opens or closes the gateway for mail services.

    The owners of the installation's own account alone see kept mails: the folder has all.
    """
    access, live = request.access, ""
    access.require("org.settings.manage")
    if request.method == "POST":
        match request.POST.get("act"):
            case "gateway_open":
                live = gateway.make_token(access)
            case "gateway_close":
                gateway.close_gateway(access)
                messages.success(request, "Nobody hands mails over any more.")
                return redirect("runs:mail_settings")
            case _:
                raise Invalid("Choose what to do.")
    is_host = access.organization.is_home and access.may("org.account.manage")
    kept = _kept() if is_host else []
    name = request.GET.get("mail", "")
    chosen = next((_read(file) for file in kept if file.name == name), None)
    if name and chosen is None:
        raise NotFound("There is no such mail any more.")
    return render(
        request,
        "settings/mail_settings.html",
        {
            "sends": account_mail.sends(),
            "sender": settings.DEFAULT_FROM_EMAIL,
            "smtp": settings.SMTP,
            "domain": settings.MAIL_DOMAIN,
            "chosen": chosen,
            "kept": [] if chosen else [_head_of(file) for file in kept],
            "server": getattr(settings, "EMAIL_HOST", ""),
            "is_host": is_host,
            "gateway": _gateway_url(request, access.organization.mail_token_prefix + "****"),
            "believed": settings.MAIL_BELIEVED,
            "authserv": settings.MAIL_AUTHSERV,
            "has_gateway": bool(access.organization.mail_token_hash),
            "live": _gateway_url(request, live) if live else "",
        },
    )


def _gateway_url(request: PageRequest, token: str) -> str:
    return f"{address_of(request)}/api/v1/mail/{token}"


def _kept() -> list[Path]:
    """The newest mails in the folder of the file backend."""
    if account_mail.sends():
        return []
    return sorted(Path(settings.EMAIL_FILE_PATH).glob("*.log"), reverse=True)[:MOST]


def _head_of(file: Path) -> StoredMail:
    """Without what it says: a mail may bring megabytes of files."""
    with file.open("rb") as opened:
        return _shown(file, message_from_bytes(opened.read(LARGEST_HEAD), policy=policy.default))


def _read(file: Path) -> StoredMail:
    """The file backend ends each mail with a line of dashes."""
    return _shown(file, message_from_bytes(file.read_bytes().rstrip(b"-\n"), policy=policy.default))


def _shown(file: Path, message: EmailMessage) -> StoredMail:
    body = message.get_body(preferencelist=("plain",))
    at = datetime.fromtimestamp(file.stat().st_mtime, tz=UTC)
    return StoredMail(
        file.name,
        at,
        str(message["From"]),
        str(message["Reply-To"] or ""),
        str(message["To"]),
        str(message["Subject"]),
        str(body.get_content()) if body is not None else "",
    )
