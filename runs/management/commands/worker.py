"""`manage.py worker`: a further worker on the same database."""

import asyncio
from argparse import ArgumentParser
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from config.database import check_server
from config.errors import StartError
from runs.management.commands.start import (
    about_mail,
    check_mail_address,
    probe_mail_address,
    work,
)

if TYPE_CHECKING:
    from runs.runtime import Runtime


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
        smtp = check_mail_address(options["smtp"])
        if why := check_server():
            raise StartError(
                "The database does not answer; run `manage.py start` first, or set DATABASE_URL "
                f"or MUSTER_DATA as it was set there ({why})."
            )
        if smtp != "off":
            try:
                probe_mail_address(smtp)
            except OSError as error:
                raise StartError(
                    f"Mails for teammates cannot be taken at {smtp} ({error.strerror or error}); "
                    "choose another with --smtp."
                ) from None
        asyncio.run(work(smtp, say_ready=partial(self._say_ready, smtp)))
        self.stdout.write("Stopped.")

    def _say_ready(self, smtp: str, running: "Runtime") -> None:
        assert running.worker is not None
        self.stdout.write(f"Worker {running.worker.name} is waiting for runs. Stop it with Ctrl-C.")
        if smtp != "off":
            self.stdout.write(about_mail(smtp))
        self.stdout.flush()
