"""`manage.py start`: everything from PostgreSQL to the worker, in one process or several."""

import asyncio
import contextlib
import errno
import ipaddress
import os
import signal
import socket
import sys
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.urls import get_resolver

from config import data_folder, processes, schema, servers
from config.database import check_server, close_pool
from config.errors import StartError
from config.postgres import Cluster
from config.processes import Child, Supervisor
from teammates import encryption
from teammates.llm import price_updates
from teammates.types import JSON

if TYPE_CHECKING:
    from runs.runtime import Runtime

BACKLOG = 1024  # connections that wait to be taken


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
        parser.add_argument(
            "--processes",
            type=int,
            default=processes.default_count(),
            help="how many; 1: one that serves and works; else half of them serve (%(default)s)",
        )
        parser.add_argument(
            "--server",
            choices=servers.NAMES,
            default=servers.DAPHNE,
            help="what serves the application (%(default)s); uvicorn is quicker, and an extra",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, _as_interrupt)
        try:
            self._start(options)
        except KeyboardInterrupt:
            self.stdout.write("Stopped.")

    def _start(self, options: JSON) -> None:
        host, port = options["host"], options["port"]
        smtp = check_mail_address(options["smtp"] or settings.SMTP)
        if options["processes"] < 1:
            raise StartError(f"--processes must be at least 1, not {options['processes']}.")
        servers.check_installed(options["server"])
        folder = data_folder.prepare()
        loading = threading.Thread(target=_load_application, daemon=True)
        loading.start()  # PostgreSQL starts meanwhile
        with contextlib.ExitStack() as stack:
            stack.enter_context(data_folder.locked(folder))
            listener = stack.enter_context(_bound(host, port))
            if settings.EMBEDDED:
                cluster = Cluster(folder)
                with self._step("Starting PostgreSQL"):
                    stack.enter_context(cluster.running())
                    cluster.ensure_database("muster")
            else:
                if why := check_server():
                    raise StartError(f"The database of DATABASE_URL cannot be used: {why}.")
            with self._step("Preparing the database"):
                schema.prepare()
            stack.callback(close_pool)
            loading.join()
            _load_application()  # raises what went wrong there
            if not encryption.is_readable():
                raise StartError(
                    "The stored secrets cannot be read: MUSTER_ENCRYPTION_KEY, or encryption.key "
                    "in the data folder, is not the key that they were stored with."
                )
            price_updates.follow_catalogue()
            _answer_to(host)
            settings.SERVED_AT = _url(host, port)
            settings.SMTP, about_mail = _mail_door(smtp, is_wanted=bool(options["smtp"]))
            welcome = _welcome(settings.SERVED_AT) + about_mail
            works = not options["no_worker"]
            listener.listen(BACKLOG)
            serve = partial(_serve, options["server"], listener)
            # A process's loop and its threads share one lock: hand it over after 1 ms, not 5, or
            # each answer of the database waits for whoever computes.
            sys.setswitchinterval(0.001)
            if options["processes"] == 1:
                serve(
                    lambda: self._say_ready(welcome),
                    with_worker=works,
                    takes_mail=True,
                    say_stopping=self._say_stopping,
                )
            else:
                self._supervise(serve, options["processes"], welcome, works=works)
        self.stdout.write("Stopped.")

    def _supervise(
        self, serve: Callable[..., None], count: int, welcome: str, *, works: bool
    ) -> None:
        webs, workers = processes.split(count) if works else (count, 0)
        children = [
            Child(f"web {number}", partial(serve, takes_mail=number == 1 and not workers))
            for number in range(1, webs + 1)
        ]
        children += [
            Child(f"worker {number}", partial(_work, takes_mail=number == 1))
            for number in range(1, workers + 1)
        ]
        close_pool()  # connections do not survive a fork
        Supervisor(
            children, on_ready=lambda: self._say_ready(welcome), on_stop=self._say_stopping
        ).run()

    def _say_ready(self, welcome: str) -> None:
        self.stdout.write(welcome)
        self.stdout.write("\nStop it with Ctrl-C.")
        self.stdout.flush()

    def _say_stopping(self) -> None:
        self.stdout.write("\nStopping: running work is handed back to the queue …")
        self.stdout.flush()

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


def _load_application() -> None:
    """All that serves and works, with its views: once, and not in each child."""
    from runs import runtime  # noqa: F401

    assert get_resolver().url_patterns


def _serve(
    server_name: str,
    listener: socket.socket,
    say_ready: Callable[[], None],
    *,
    with_worker: bool = False,
    takes_mail: bool = False,
    say_stopping: Callable[[], None] = lambda: None,
) -> None:
    """Answer requests until the process is told to end."""
    server_class = servers.server_class(server_name)  # first: it may install the event loop

    from config.asgi import application
    from runs import runtime

    running: Runtime | None = None

    async def ready() -> None:
        nonlocal running
        running = runtime.start(with_worker=with_worker, on_failure=server.fail)
        if takes_mail and settings.SMTP != "off":
            await running.take_mail(settings.SMTP)
        say_ready()

    async def stop() -> None:
        say_stopping()
        if running is not None:
            await running.stop()

    server = server_class(servers.Service(application, listener, on_ready=ready, on_stop=stop))
    server.run()


def _work(say_ready: Callable[[], None], *, takes_mail: bool) -> None:
    """Run teammates until the process is told to end."""
    asyncio.run(work(settings.SMTP if takes_mail else "off", say_ready=lambda _: say_ready()))


async def work(smtp: str, *, say_ready: "Callable[[Runtime], None]") -> None:
    """A worker, until SIGINT or SIGTERM; takes mails at `smtp` unless that is off. Raises what it
    dies of."""
    from runs import runtime

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    running = runtime.start(with_worker=True)
    if smtp != "off":
        await running.take_mail(smtp)
    say_ready(running)
    ended = asyncio.ensure_future(running.run_worker())
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
    failure = ended.exception() if ended.done() and not ended.cancelled() else None
    await running.stop()
    ended.cancel()
    stopped.cancel()
    close_pool()
    if failure is not None:
        raise failure


def check_mail_address(address: str) -> str:
    """The address. Raises `StartError` unless it is `host:port` or off."""
    host, _, port = address.rpartition(":")
    if address != "off" and not (host and port.isdecimal() and 1 <= int(port) <= 65535):
        raise StartError(f"--smtp must be like 127.0.0.1:2525, or off, not {address!r}.")
    return address


def _mail_door(address: str, *, is_wanted: bool) -> tuple[str, str]:
    """Where mails are taken, or off, and what to say about it. Raises `StartError` where an address
    that somebody wanted is taken; the one that nobody asked for is done without."""
    if address == "off":
        return "off", ""
    try:
        probe_mail_address(address)
    except OSError as error:
        why = f"Mails for teammates cannot be taken at {address} ({error.strerror or error})"
        if is_wanted:
            raise StartError(f"{why}; choose another with --smtp.") from None
        return "off", f"\n{why}. Choose another address with --smtp."
    return address, about_mail(address)


def probe_mail_address(address: str) -> None:
    """Raises `OSError` where nobody can listen."""
    host, _, port = address.rpartition(":")
    with socket.create_server((host.strip("[]"), int(port)), family=_family(host.strip("[]"))):
        pass


def about_mail(address: str) -> str:
    return f"\nMails to teammates (…@{settings.MAIL_DOMAIN}) are taken at {address}, over SMTP."


def _as_interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _bound(host: str, port: int) -> socket.socket:
    """The socket that requests will come to. Raises `StartError` if nobody can listen there."""
    if not 1 <= port <= 65535:
        raise StartError(f"--port must be 1 to 65535, not {port}.")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise StartError(f"--host must be an address such as 127.0.0.1, not {host!r}.") from None
    # Named as TCP: asyncio sends small pieces at once (TCP_NODELAY) only where it knows.
    bound = socket.socket(_family(host), socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        is_taken = error.errno == errno.EADDRINUSE
        why = "is taken" if is_taken else f"cannot be used ({error.strerror})"
        raise StartError(f"Port {port} on {host} {why}; choose another with --port.") from None
    return bound


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


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
