"""`manage.py reencrypt`: once MUSTER_ENCRYPTION_KEY has a new key in front of the old one."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from teammates import encryption
from teammates.errors import Unavailable


class Command(BaseCommand):
    help = "Store every secret with the first key of MUSTER_ENCRYPTION_KEY (new,old)."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            changed = encryption.reencrypt()
        except Unavailable as error:
            raise CommandError(error.message) from None
        self.stdout.write(f"{changed} secrets are stored with the first key; the others may go.")
