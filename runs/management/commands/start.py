"""`manage.py start`: everything in one process, from PostgreSQL to the worker."""

import contextlib
import ipaddress
import os
import signal
import socket
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from config import data_folder
from config.database import check_server, close_pool
from config.errors import StartError
from config.postgres import Cluster
from teammates import encryption
from teammates.types import JSON

if TYPE_CHECKING:
    from runs.runtime import Runtime


class Command(BaseCommand):
    help = "Start Muster: pages, APIs, streams and a worker, with its own PostgreSQL."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--port", type=int, default=8000, help="port to listen on")
        parser.add_argument(
            "--smtp",
            metavar="HOST:PORT",
            help=f"where mails for teammates are taken, or off (now {settings.SMTP})",
        )
        parser.add_argument("--no-worker", action="store_true", help="serve only; run no teammate")

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, _as_interrupt)
        # The loop and the threads share one lock: hand it over after 1 ms, not 5, or each answer
        # of the database waits for whoever computes.
        sys.setswitchinterval(0.001)
        try:
            self._start(options)
        except KeyboardInterrupt:
            self.stdout.write("Stopped.")

    def _start(self, options: JSON) -> None:
        host, port, smtp = options["host"], options["port"], options["smtp"]
        check_mail_address(smtp or settings.SMTP)
        folder = data_folder.prepare()
        with contextlib.ExitStack() as stack:
            stack.enter_context(data_folder.locked(folder))
            _check_address(host, port)
            if settings.EMBEDDED:
                cluster = Cluster(folder)
                with self._step("Starting PostgreSQL"):
                    stack.enter_context(cluster.running())
                    cluster.ensure_database("muster")
            else:
                if why := check_server():
                    raise StartError(f"The database of DATABASE_URL cannot be used: {why}.")
            with self._step("Preparing the database"):
                call_command("migrate", interactive=False, verbosity=0)
            stack.callback(close_pool)
            if not encryption.is_readable():
                raise StartError(
                    "The stored secrets cannot be read: MUSTER_ENCRYPTION_KEY, or encryption.key "
                    "in the data folder, is not the key that they were stored with."
                )
            _answer_to(host)
            settings.SERVED_AT = _url(host, port)
            welcome = _welcome(settings.SERVED_AT)
            self._serve(host, port, smtp, with_worker=not options["no_worker"], welcome=welcome)
        self.stdout.write("Stopped.")

    def _serve(
        self, host: str, port: int, smtp: str | None, *, with_worker: bool, welcome: str
    ) -> None:
        from config.server import Server  # isort: skip  # it installs the event loop

        from config.asgi import application
        from runs import runtime

        running: Runtime | None = None

        async def ready() -> None:
            nonlocal running
            running = runtime.start(with_worker=with_worker, on_failure=server.fail)
            self.stdout.write(welcome)
            self.stdout.write(await take_mail(running, smtp))
            self.stdout.write("\nStop it with Ctrl-C.")
            self.stdout.flush()

        async def stop() -> None:
            self.stdout.write("\nStopping: running work is handed back to the queue …")
            self.stdout.flush()
            if running is not None:
                await running.stop()

        server = Server(application, host=host, port=port, on_ready=ready, on_stop=stop)
        server.run()

    @contextlib.contextmanager
    def _step(self, what: str) -> Iterator[None]:
        """Say what takes a moment, and how long it took."""
        began = time.monotonic()
        self.stdout.write(f"{what} …", ending="")
        self.stdout.flush()
        try:
            yield
        except BaseException:
            self.stdout.write("")
            raise
        self.stdout.write(f" {time.monotonic() - began:.1f} s")


def check_mail_address(address: str) -> None:
    """Raise `StartError` unless it is `host:port` or off."""
    host, _, port = address.rpartition(":")
    if address != "off" and not (host and port.isdecimal() and 1 <= int(port) <= 65535):
        raise StartError(f"--smtp must be like 127.0.0.1:2525, or off, not {address!r}.")


async def take_mail(running: "Runtime", wanted: str | None) -> str:
    """Listen for mails; what to print. `settings.SMTP` is from then on where they are taken. Raises
    `StartError` where the `wanted` address is taken; the one that nobody asked for is done without.
    """
    address = wanted or settings.SMTP
    settings.SMTP = address
    if address == "off":
        return ""
    try:
        await running.take_mail(address)
    except OSError as error:
        why = f"Mails for teammates cannot be taken at {address} ({error.strerror or error})"
        if wanted:
            raise StartError(f"{why}; choose another with --smtp.") from None
        settings.SMTP = "off"
        return f"\n{why}. Choose another address with --smtp."
    return f"\nMails to teammates (…@{settings.MAIL_DOMAIN}) are taken at {address}, over SMTP."


def _as_interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _check_address(host: str, port: int) -> None:
    """Raise `StartError` if nobody can listen there."""
    if not 1 <= port <= 65535:
        raise StartError(f"--port must be 1 to 65535, not {port}.")
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        raise StartError(f"--host must be an address such as 127.0.0.1, not {host!r}.") from None
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            why = "is taken" if error.errno == 98 else f"cannot be used ({error.strerror})"
            raise StartError(f"Port {port} on {host} {why}; choose another with --port.") from None


def _answer_to(host: str) -> None:
    """Answer requests for the address we listen on; an open one may have any name."""
    if "ALLOWED_HOSTS" not in os.environ:
        is_open = host in ("0.0.0.0", "::")
        settings.ALLOWED_HOSTS += ["*" if is_open else f"[{host}]" if ":" in host else host]


def _url(host: str, port: int) -> str:
    if settings.PUBLIC_URL:
        return str(settings.PUBLIC_URL)
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _welcome(url: str) -> str:
    """What to print once the server listens: on the first start with a link and a key."""
    from teammates.people import api_keys, organizations, setup

    organization = organizations.first_organization()
    lines = ["", f"Muster is running at {url}"]
    if token := setup.make_setup_token(organization):
        lines += ["", "Become its owner (this link works once):", f"  {url}/setup/{token}/"]
    if not organization.api_keys.exists():
        _, secret = api_keys.create_first_key(organization)
        lines += [
            "",
            "Or call it from a program, with this key (it is not shown again, works for "
            f"{api_keys.FIRST_DAYS} days, and can change no settings):",
            f"  curl -N {url}/api/v2/runs -H 'Authorization: Bearer {secret}' "
            """-H 'Content-Type: application/json' -d '{"message": "Say hello"}'""",
            "",
            f'  M8tes(api_key="{secret}", base_url="{url}/api/v2")'
            '.runs.create_and_wait(message="Say hello").output',
        ]
    return "\n".join(lines)
