"""A database that is made at once is the one that the migrations make; old ones are migrated."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from django.db import connection

from config import schema
from tests.database import CHECKOUT, cluster, template, url_of


def _database(name: str) -> Iterator[str]:
    """One without a table."""
    with cluster.connect() as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    yield name
    with cluster.connect() as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty() -> Iterator[str]:
    yield from _database(f"muster_empty_{os.getpid()}")


@pytest.fixture
def another() -> Iterator[str]:
    yield from _database(f"muster_another_{os.getpid()}")


def manage(database: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-W", "ignore", "manage.py", *arguments],
        cwd=CHECKOUT,
        env=os.environ | {"DATABASE_URL": url_of(database)},
        check=True,
    )


def load(database: str, dump: str) -> None:
    with psycopg.connect(url_of(database)) as connection:
        connection.execute(dump.encode(), prepare=False)


def shape(database: str) -> set[str]:
    """What the database has: tables, columns, constraints, indexes, triggers, functions."""
    dump = schema.cleaned(cluster.dump(database))
    # When a migration ran, and in which order those of different apps did, is no part of it.
    rows = re.sub(r"VALUES \(\d+, ('.*', '.*'), '.*'\)", r"VALUES (\1)", dump)
    return set(rows.split("\n"))


def test_the_made_schema_is_what_the_migrations_make(empty: str, another: str) -> None:
    load(empty, schema.FILE.read_text())
    manage(empty, "migrate", "-v", "0")
    # PostgreSQL words a check otherwise once it was dumped and read again.
    load(another, schema.cleaned(cluster.dump(template())))
    assert shape(empty) == shape(another)


def test_only_an_empty_database_is_given_it(empty: str, alice: object) -> None:
    assert not schema.load_if_empty()


def test_a_database_of_the_first_version_is_migrated_with_what_it_holds(empty: str) -> None:
    for app in ("teammates", "threads", "runs"):
        manage(empty, "migrate", "-v", "0", app, "0001")
    with psycopg.connect(url_of(empty), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO teammates_organization (uid, created_at, updated_at, name, timezone, "
            "require_end_user_id, max_running, setup_token_hash, is_home) "
            "VALUES (gen_random_uuid(), now(), now(), 'The first', 'UTC', false, 100, '', true)"
        )
    manage(empty, "migrate", "-v", "0")
    with psycopg.connect(url_of(empty)) as connection:
        row = connection.execute("SELECT name FROM teammates_organization").fetchone()
    assert row == ("The first",)
    assert shape(empty) == shape(template())


@pytest.mark.django_db
def test_a_database_that_has_run_all_migrations_is_not_migrated_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    migrated: list[str] = []
    monkeypatch.setattr(schema, "call_command", lambda name, **_: migrated.append(name))
    schema.prepare()
    assert not migrated
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'runs' AND name LIKE '0017%%'")
    schema.prepare()
    assert migrated == ["migrate"]
