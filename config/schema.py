"""The schema as one file: a new database has it at once, and is then migrated like any other.

`manage.py make_schema` writes it. Running a hundred migrations takes a new installation far longer
than all else; one that was made earlier lacks only what came since.
"""

from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

from django.apps import apps
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.recorder import MigrationRecorder

FILE = Path(__file__).with_name("schema.sql")
_LEFT_OUT = ("--", "\\", "SET ", "SELECT pg_catalog.set_config")


def prepare() -> None:
    """Give the database the schema of this version."""
    if load_if_empty() or not is_current():
        call_command("migrate", interactive=False, verbosity=0)


def is_current() -> bool:
    """Whether each migration that there is has run, without reading what they do."""
    there_are = {
        (app.label, module.name)
        for app in apps.get_app_configs()
        if (found := find_spec(f"{app.name}.migrations")) is not None
        for module in iter_modules(found.submodule_search_locations)
        if not module.ispkg and module.name[0] not in "_~"  # as Django looks for them
    }
    return there_are <= MigrationRecorder(connection).applied_migrations().keys()


def load_if_empty() -> bool:
    """Load the schema into a database that has no table yet; says whether it did."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(44)")  # of two at once, the second finds it
        cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        if cursor.fetchone()[0]:
            return False
        connection.connection.execute(FILE.read_text(), prepare=False)
    return True


def cleaned(dump: str) -> str:
    """A dump of PostgreSQL's without comments and settings of the session."""
    lines = [line for line in dump.splitlines() if line and not line.startswith(_LEFT_OUT)]
    return "\n".join(lines) + "\n"
