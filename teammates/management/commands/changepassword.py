"""`manage.py changepassword EMAIL`: Django's, in the audit log, and ending what is signed in."""

from typing import Any

from django.contrib.auth.management.commands import changepassword
from django.db import transaction

from teammates.models import User
from teammates.people import sessions
from teammates.trust import audit, client


class Command(changepassword.Command):
    def handle(self, *args: Any, **options: Any) -> str | None:
        with transaction.atomic(), client.acting(client.Client(door="command")):
            said = super().handle(*args, **options)
            user = User.objects.get_by_natural_key(options["username"])
            sessions.end_all_sessions(user)
            audit.note(None, "account.password", user, user=user)
        return said
