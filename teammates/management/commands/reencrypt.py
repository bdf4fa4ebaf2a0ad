"""`manage.py reencrypt`: once MUSTER_ENCRYPTION_KEY has a new key in front of the old one."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from teammates import encryption
from teammates.access import Access
from teammates.errors import Unavailable
from teammates.models import Organization, Role
from teammates.trust import audit, client


class Command(BaseCommand):
    help = "Store every secret with the first key of MUSTER_ENCRYPTION_KEY (new,old)."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with transaction.atomic(), client.acting(client.Client(door="command")):
                changed = encryption.reencrypt()
                for organization in Organization.objects.all():
                    access = Access(organization=organization, role=Role.OWNER)
                    audit.note(access, "secrets.reencrypt", organization)
        except Unavailable as error:
            raise CommandError(error.message) from None
        self.stdout.write(f"{changed} secrets are stored with the first key; the others may go.")
