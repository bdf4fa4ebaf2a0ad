"""`manage.py rebuild_usage`: make the sums of usage again from the runs."""

from django.core.management.base import BaseCommand

from runs.usage.days import rebuild_days


class Command(BaseCommand):
    help = "Make the sums of usage of all days again from the runs, and say how many were wrong."

    def handle(self, *args: object, **options: object) -> None:
        rebuilt = rebuild_days()
        wrong = f"{rebuilt.changed} were wrong" if rebuilt.changed else "none was wrong"
        self.stdout.write(f"{rebuilt.count} sums made again; {wrong}.")
