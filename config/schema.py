"""The schema as one file: a new database has it at once, and is then migrated like any other.

`manage.py make_schema` writes it. Running a hundred migrations takes a new installation far longer
than all else; one that was made earlier lacks only what came since.
"""

from pathlib import Path

from django.db import connection, transaction

FILE = Path(__file__).with_name("schema.sql")
_LEFT_OUT = ("--", "\\", "SET ", "SELECT pg_catalog.set_config")


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
