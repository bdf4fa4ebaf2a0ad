"""The SMTP listener: takes mails for teammates and tasks, and relays for nobody."""

import asyncio
import logging
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session
from django.conf import settings

from config.database import in_db
from runs.inbox import receiving
from teammates.errors import NotFound

logger = logging.getLogger("muster.smtp")
MOST_RECIPIENTS = 20  # of one mail
MOST_SESSIONS = 50
MOST_OF_ONE = 10  # sessions of one address: it cannot take them all
IDLE_SECONDS = 20  # that a session may say nothing


class MailHandler:
    """What the server asks at each step of a session. A mail is taken when the database has it."""

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if len(envelope.rcpt_tos) >= MOST_RECIPIENTS:
            return "452 Too many recipients"
        try:
            is_known = await in_db(receiving.is_known, address)
        except Exception:
            logger.exception("An address could not be looked up")
            return "451 Try again later"
        if not is_known:
            return "550 Nobody has this address"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        raw = envelope.content or b""
        assert isinstance(raw, bytes)
        inbound = receiving.Inbound(raw, envelope_sender=envelope.mail_from)
        for address in envelope.rcpt_tos:
            try:
                taken = await in_db(receiving.receive, address, inbound)
                if receiving.what_holds_up(taken) is not None:
                    return "451 Try again later"
            except NotFound:
                continue  # taken away since it was named
            except Exception:
                # The sender tries again; what was taken already is not taken twice.
                logger.exception("A mail could not be taken")
                return "451 Try again later"
        return "250 Taken"


async def listen(host: str, port: int) -> asyncio.Server:
    """Take mails there until the server is closed. Raises `OSError` where nobody can listen."""
    loop = asyncio.get_running_loop()
    sessions: dict[SMTP, str] = {}

    class Limited(SMTP):
        def connection_made(self, transport: Any) -> None:
            address = str((transport.get_extra_info("peername") or [""])[0])
            of_one = sum(other == address for other in sessions.values())
            if len(sessions) >= MOST_SESSIONS or of_one >= MOST_OF_ONE:
                transport.write(b"421 Too many connections\r\n")
                transport.close()
                return
            sessions[self] = address
            super().connection_made(transport)

        def connection_lost(self, error: Exception | None) -> None:
            if self in sessions:
                del sessions[self]
                super().connection_lost(error)

    def serve() -> SMTP:
        return Limited(
            MailHandler(),
            data_size_limit=receiving.LARGEST_MAIL,
            enable_SMTPUTF8=True,
            decode_data=False,
            loop=loop,
            hostname=settings.MAIL_DOMAIN,
            ident="Muster",
            timeout=IDLE_SECONDS,
        )

    return await loop.create_server(serve, host, port)
