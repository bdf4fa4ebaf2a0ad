"""Whether a mail comes from whom it says: what a mail server that we trust, or a mail service at
the gateway, found out about it. No database and no Django."""

from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from authres import AuthenticationResultsHeader, AuthResError

# Method → where a result of it names the domain, best first.
PROOFS = {
    "dmarc": ("header.from",),
    "dkim": ("header.d", "header.i"),
    "spf": ("smtp.mailfrom",),
}
NOBODY_VOUCHES = "Nobody whom this server trusts vouches for its sender."


@dataclass(frozen=True)
class Hints:
    """What is known about a mail besides its bytes.

    `envelope_sender`: whom the sending server named; empty for bounces, None if not known.
    `trusted_server`: the name (authserv-id) under which our own mail server writes what it found.
    `proven_domains`: those that a mail service proved (DKIM, SPF); None: it says nothing.
    `are_believed`: the operator has mails checked elsewhere.
    """

    envelope_sender: str | None = None
    trusted_server: str = ""
    proven_domains: frozenset[str] | None = field(default=None)
    are_believed: bool = False


def why_unproven(message: EmailMessage, sender: str, hints: Hints) -> str:
    """Empty if the domain of `sender` is proven."""
    domain = sender.rpartition("@")[2]
    if hints.are_believed or not domain:
        return ""
    proven = hints.proven_domains
    if proven is None:
        proven = _proven_by(hints.trusted_server, message)
    if proven is None:
        return NOBODY_VOUCHES
    if any(_are_aligned(domain, one) for one in proven):
        return ""
    return f"It failed the check that it comes from {domain}."


def _proven_by(server: str, message: EmailMessage) -> frozenset[str] | None:
    """The domains that our mail server proved; None if it says nothing. It puts its header on top,
    and takes out those that pretend to be its own: what stands below is the sender's."""
    if not server:
        return None
    for text in message.get_all("Authentication-Results", []):
        try:
            found = AuthenticationResultsHeader.parse(f"Authentication-Results: {text}")
        except AuthResError:
            return None
        if (found.authserv_id or "").lower() == server.lower():
            if any(one.method == "dmarc" and one.result == "fail" for one in found.results):
                return frozenset()  # the domain's own rules, which may be stricter, say no
            return frozenset(filter(None, map(_domain_of, found.results)))
    return None


def _domain_of(result: Any) -> str:
    """The domain that a result proves; empty if it proves none, or names two where one is meant."""
    names = [f"{one.type}.{one.name}" for one in result.properties]
    if result.result != "pass" or len(set(names)) < len(names):
        return ""
    told = {f"{one.type}.{one.name}": str(one.value) for one in result.properties}
    found = next((told[name] for name in PROOFS.get(result.method, ()) if name in told), "")
    return found.rpartition("@")[2].strip().lower()


def _are_aligned(one: str, other: str) -> bool:
    """The same domain, or one within the other."""
    shorter = min(one, other, key=len)
    is_within = one.endswith(f".{other}") or other.endswith(f".{one}")
    return one == other or (is_within and "." in shorter)
