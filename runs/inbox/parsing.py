"""Reading mails: from the bytes of a mail to what of it matters here. No database and no
Django; call it within a budget (`teammates/timebox.py`)."""

import hashlib
import mimetypes
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from email import message_from_bytes, policy
from email.message import EmailMessage, Message, MIMEPart

from runs.inbox import sender_proof
from teammates.html import read_html
from teammates.text import clean_text

MOST_ATTACHMENTS = 20
LARGEST_ATTACHMENT = 20 * 1024 * 1024
LONGEST_TEXT = 400_000  # characters
MOST_HOPS = 40
LARGEST_HEAD = 64 * 1024  # bytes
MOST_PARTS = 500
LONGEST_INTRODUCTION = 200  # characters of “On Monday, Ops wrote:”
# One line at a time and without anything that could be matched in two ways: it is fast on any text.
_INTRODUCES = re.compile(
    r"-+ ?(original message|forwarded message|ursprüngliche nachricht) ?-+|(on|am|le|el) [^\n]*:",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"[^\s<>()\[\],;:\\\"@]+@[a-z0-9.-]+")
UNKNOWN = sender_proof.Hints()
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_ID = re.compile(r"<[^<>\s]+>")


@dataclass(frozen=True)
class MailAttachment:
    """A file that comes with a mail."""

    name: str
    content: bytes


@dataclass(frozen=True)
class InboundEmail:
    """A mail, or its head alone. `why_automatic` says what gives away that no person wrote it;
    empty if one did."""

    sender: str  # the address, lower case; empty: none, or several
    sender_name: str = ""
    subject: str = ""
    text: str = ""
    message_id: str = ""  # its own; of a mail without one, made of all that it says
    references: tuple[str, ...] = ()  # of mails that it answers, nearest first
    attachments: tuple[MailAttachment, ...] = ()
    dropped: tuple[str, ...] = field(default=())
    why_automatic: str = ""
    # Why nobody vouches that it comes from `sender`; empty if somebody whom we trust does.
    why_unproven: str = ""

    @property
    def new_text(self) -> str:
        """Without what is quoted of earlier mails."""
        return _without_quotes(self.text) or self.text


def read_email(raw: bytes, hints: sender_proof.Hints = UNKNOWN) -> InboundEmail:
    """Never raises for a mail that is broken: what can be read of it is read."""
    if _is_monstrous(raw):
        return InboundEmail(sender="", message_id=_made_up_id(raw))
    return _with_id(raw, _parsed(raw, hints, with_body=True))


def read_head(raw: bytes, hints: sender_proof.Hints = UNKNOWN) -> InboundEmail:
    """Who wrote a mail about what, without a look at its body."""
    end = _END_OF_HEAD.search(raw)
    head = raw[: end.start() if end else len(raw)]
    if len(head) > LARGEST_HEAD:
        return InboundEmail(sender="", message_id=_made_up_id(raw))
    return _with_id(raw, _parsed(head + b"\r\n\r\n", hints, with_body=False))


def _parsed(raw: bytes, hints: sender_proof.Hints, *, with_body: bool) -> InboundEmail:
    try:
        return _read(message_from_bytes(raw, policy=policy.default), hints, with_body=with_body)
    except Exception:  # the parser raises whatever it meets, RecursionError too
        return InboundEmail(sender="")


def _with_id(raw: bytes, email: InboundEmail) -> InboundEmail:
    return email if email.message_id else replace(email, message_id=_made_up_id(raw))


def _made_up_id(raw: bytes) -> str:
    return f"<{hashlib.sha256(raw).hexdigest()}>"


def _is_monstrous(raw: bytes) -> bool:
    """Made to keep its reader busy: reading takes time by headers and parts, not by size."""
    end = _END_OF_HEAD.search(raw)
    return (end.start() if end else len(raw)) > LARGEST_HEAD or raw.count(b"\n--") > MOST_PARTS


def _read(message: Message, hints: sender_proof.Hints, *, with_body: bool) -> InboundEmail:
    assert isinstance(message, EmailMessage)
    name, sender = _sender_of(message)
    attachments, dropped = _attachments_in(message) if with_body else ([], [])
    return InboundEmail(
        sender=sender,
        sender_name=name,
        subject=" ".join(_header(message, "Subject").split())[:500],
        text=_text_of(message)[:LONGEST_TEXT] if with_body else "",
        message_id=next(iter(_ID.findall(_header(message, "Message-ID"))), ""),
        references=_references_of(message),
        attachments=tuple(attachments),
        dropped=tuple(dropped),
        why_automatic=_why_automatic(message, hints.envelope_sender),
        why_unproven=sender_proof.why_unproven(message, sender, hints),
    )


def _header(message: EmailMessage, name: str) -> str:
    """Its text; of a header that cannot be parsed, the raw one."""
    try:
        value = message.get(name)
    except Exception:  # the parser of headers raises whatever it meets
        value = next((v for k, v in message.raw_items() if k.lower() == name.lower()), None)
    return clean_text(str(value)) if value is not None else ""


def _sender_of(message: EmailMessage) -> tuple[str, str]:
    """Of exactly one From with exactly one address and nothing odd about it: two programs must not
    be able to read it as two different people."""
    try:
        headers = message.get_all("From", [])
        if len(headers) != 1 or headers[0].defects or len(headers[0].addresses) != 1:
            return "", ""
        found = headers[0].addresses[0]
        address = found.addr_spec.lower()
    except Exception:  # the parser of headers raises whatever it meets
        return "", ""
    if not _ADDRESS.fullmatch(address):
        return "", ""
    return " ".join(clean_text(found.display_name).split())[:200], address


def _references_of(message: EmailMessage) -> tuple[str, ...]:
    answers = _ID.findall(_header(message, "In-Reply-To"))
    thread = _ID.findall(_header(message, "References"))
    return tuple(dict.fromkeys([*answers, *reversed(thread)]))[:50]


def _why_automatic(message: EmailMessage, envelope_sender: str | None) -> str:
    said = {
        name: _header(message, name).strip().lower()
        for name in (
            "Auto-Submitted",
            "Precedence",
            "X-Autoreply",
            "X-Autorespond",
            "X-Loop",
            "Return-Path",
        )
    }
    if said["Auto-Submitted"] not in ("", "no"):
        return f"Auto-Submitted: {said['Auto-Submitted']}"
    if said["Precedence"] in ("bulk", "junk", "auto_reply"):
        return f"Precedence: {said['Precedence']}"
    for name in ("X-Autoreply", "X-Autorespond", "X-Loop"):
        if said[name] not in ("", "no"):
            return f"{name}: {said[name]}"
    if envelope_sender == "" or said["Return-Path"] == "<>":
        return "It has no sender to answer to."
    if message.get_content_type() == "multipart/report":
        return "It reports on a delivery."
    if len(message.get_all("Received", [])) > MOST_HOPS:
        return "It was passed on too often."
    return ""


def _without_quotes(text: str) -> str:
    """Up to the line that says who wrote what, without quoted lines. One pass over the lines."""
    kept: list[str] = []
    for line in text.split("\n"):
        if len(line) <= LONGEST_INTRODUCTION and _INTRODUCES.fullmatch(line.strip()):
            break
        if not line.startswith(">"):
            kept.append(line)
    return "\n".join(kept).strip()


# --- what it says -------------------------------------------------------------------------------
def _text_of(message: EmailMessage) -> str:
    try:
        body = message.get_body(preferencelist=("plain", "html"))
    except Exception:  # a mail whose parts contradict each other
        body = None
    if body is None:
        return ""
    text = clean_text(_decoded(body))
    if body.get_content_type() == "text/html":
        text = read_html(text)[1]
    return text.replace("\r\n", "\n").strip()


def _decoded(part: MIMEPart) -> str:
    try:
        content = part.get_content()
        return content if isinstance(content, str) else ""
    except (LookupError, ValueError, UnicodeError):  # a charset that does not exist, broken base64
        payload = part.get_payload(decode=True)
        return payload.decode(errors="replace") if isinstance(payload, bytes) else ""


def _attachments_in(message: EmailMessage) -> tuple[list[MailAttachment], list[str]]:
    """The files, and the names of those that are too large or too many."""
    found: list[MailAttachment] = []
    dropped: list[str] = []
    try:
        parts = list(_files_of(message))
    except Exception:
        return [], []
    for number, part in enumerate(parts, 1):
        name = _name_of(part, number)
        content = _bytes_of(part)
        if len(content) > LARGEST_ATTACHMENT or len(found) >= MOST_ATTACHMENTS:
            dropped.append(name)
        elif content:
            found.append(MailAttachment(name, content))
    return found, dropped


def _files_of(part: MIMEPart) -> Iterator[MIMEPart]:
    """The parts that are files; a mail within the mail is one."""
    if part.get_content_type() == "message/rfc822":
        yield part
    elif part.is_multipart():
        for inner in part.iter_parts():
            yield from _files_of(inner)
    elif _is_file(part):
        yield part


def _is_file(part: MIMEPart) -> bool:
    if part.get_content_disposition() == "attachment" or part.get_filename():
        return True
    return part.get_content_maintype() not in ("text", "multipart", "message")


def _name_of(part: MIMEPart, number: int) -> str:
    """A flat, printable name."""
    given = clean_text(part.get_filename() or "")
    name = "".join(c if c.isprintable() else " " for c in re.split(r"[/\\]", given)[-1]).strip()
    if name.strip(".") == "":
        ending = mimetypes.guess_extension(part.get_content_type()) or ""
        is_mail = part.get_content_type() == "message/rfc822"
        name = f"attachment-{number}{'.eml' if is_mail else ending}"
    stem, dot, ending = name.rpartition(".")
    return f"{stem[:150]}{dot}{ending[:20]}" if stem else name[:170]


def _bytes_of(part: MIMEPart) -> bytes:
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload(0) if part.is_multipart() else None
        return inner.as_bytes() if isinstance(inner, EmailMessage) else b""
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""
