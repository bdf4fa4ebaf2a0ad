"""`manage.py worker`: a further worker on the same database."""

import asyncio
import signal
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from config.database import check_server, close_pool
from config.errors import StartError
from runs.management.commands.start import check_mail_address, take_mail


class Command(BaseCommand):
    help = "Run one more worker. The database must be up: start Muster first, or set DATABASE_URL."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--smtp",
            metavar="HOST:PORT",
            default="off",
            help="where mails for teammates are taken too (off)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        check_mail_address(options["smtp"])
        if why := check_server():
            raise StartError(
                "The database does not answer; run `manage.py start` first, or set DATABASE_URL "
                f"or MUSTER_DATA as it was set there ({why})."
            )
        asyncio.run(self._work(options["smtp"]))
        close_pool()

    async def _work(self, smtp: str) -> None:
        from runs import runtime

        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        running = runtime.start(with_worker=True)
        assert running.worker is not None
        self.stdout.write(f"Worker {running.worker.name} is waiting for runs. Stop it with Ctrl-C.")
        if smtp != "off":
            self.stdout.write(await take_mail(running, smtp))
        self.stdout.flush()
        ended = asyncio.ensure_future(running.run_worker())
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        failure = ended.exception() if ended.done() and not ended.cancelled() else None
        await running.stop()
        ended.cancel()
        stopped.cancel()
        if failure is not None:
            raise failure
        self.stdout.write("Stopped.")
