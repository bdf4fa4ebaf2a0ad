"""Rows as a busy organization has them after months: copies of one finished run, spread over
threads, days and outcomes."""

from dataclasses import dataclass

from psycopg import Connection, sql

from runs.usage.days import TABLES

PER_THREAD = 5
PAUSED = 200  # of the newest, each in a thread of its own
FILES_EVERY = 10

_AGE = "make_interval(secs => n * 60)"
_FILES = """
INSERT INTO threads_file (uid, created_at, updated_at, thread_id, name, version, size,
    content_type, sha256, stored_as)
SELECT gen_random_uuid(), created_at, created_at, thread_id, 'report-' || id || '.csv', 1, 1000,
    'text/csv', repeat('0', 64), 'none/' || id
FROM runs_run WHERE id > %(above)s AND id %% %(every)s = 0
"""
_TABLES = (
    "runs_run",
    "runs_usage",
    "runs_usageday",
    "runs_usagelabel",
    "threads_thread",
    "threads_message",
    "threads_file",
)


@dataclass(frozen=True)
class Filled:
    """Where to look: the newest finished run, its thread, and one of the oldest runs."""

    run: int
    thread: int
    deep: int
    deep_uid: str


def fill(connection: Connection, *, like: str, count: int) -> Filled:
    """Copy the finished run with the uid `like` `count` times, each a minute older than the one
    before; half of them are the first user's. `connection` commits by itself."""
    row = connection.execute(
        "SELECT id, thread_id, prompt_id, answer_id FROM runs_run WHERE uid = %s", [like]
    ).fetchone()
    assert row
    run, thread, prompt, answer = row
    runs, threads, messages = (
        _last_id(connection, table) for table in ("runs_run", "threads_thread", "threads_message")
    )
    _fill_threads(connection, thread, count, threads)
    thread_of = f"{threads} + 1 + (n - 1) / {PER_THREAD}"
    _fill_messages(connection, (prompt, answer), count, messages, thread_of)
    _fill_runs(connection, run, count, runs, messages, thread_of)
    for days in TABLES:
        connection.execute(f"DELETE FROM {days.name}")
        connection.execute(days.fill())
    connection.execute(_FILES, {"above": runs, "every": FILES_EVERY})
    _tidy(connection)
    oldest = connection.execute(
        "SELECT id, uid FROM runs_run WHERE id > %s ORDER BY created_at OFFSET 30", [runs]
    ).fetchone()
    assert oldest
    return Filled(runs + 2, threads + 1, oldest[0], str(oldest[1]))


def _fill_threads(connection: Connection, like: int, count: int, above: int) -> None:
    _copy(
        connection,
        "threads_thread",
        like,
        count // PER_THREAD,
        id=f"{above} + n",
        title="'Order ' || n || ' and what became of it'",
        created_at=f"created_at - {_AGE} * {PER_THREAD}",
        updated_at=f"created_at - {_AGE} * {PER_THREAD}",
        created_by_id="CASE n % 2 WHEN 0 THEN (SELECT min(id) FROM teammates_user) END",
    )


def _fill_messages(
    connection: Connection, like: tuple[int, int], count: int, above: int, thread_of: str
) -> None:
    """What was asked, and behind all of it what was answered."""
    for source, first, words in (
        (like[0], above, "Look up order "),
        (like[1], above + count, "I looked up order "),
    ):
        _copy(
            connection,
            "threads_message",
            source,
            count,
            id=f"{first} + n",
            thread_id=thread_of,
            created_at=f"created_at - {_AGE}",
            content=f"'{words}' || n || ' of customer ' || n % 997",
        )


def _fill_runs(
    connection: Connection, like: int, count: int, above: int, messages: int, thread_of: str
) -> None:
    """Runs and what they used; some paused, one in twenty failed."""
    is_paused = f"n <= {PAUSED * PER_THREAD} AND n % {PER_THREAD} = 1"
    fails = "n % 20 = 0"
    finished = f"created_at - {_AGE} + interval '2 seconds'"
    _copy(
        connection,
        "runs_run",
        like,
        count,
        id=f"{above} + n",
        thread_id=thread_of,
        position="n",
        prompt_id=f"{messages} + n",
        answer_id=f"{messages + count} + n",
        created_at=f"created_at - {_AGE}",
        created_by_id="CASE n / 5 % 2 WHEN 0 THEN (SELECT min(id) FROM teammates_user) END",
        status=f"CASE WHEN {is_paused} THEN 'paused' WHEN {fails} THEN 'failed' ELSE status END",
        finished_at=f"CASE WHEN NOT ({is_paused}) THEN {finished} END",
        started_at=f"created_at - {_AGE}",
        error_class=f"CASE WHEN {fails} THEN 'provider.rejected' ELSE '' END",
        error_message=f"CASE WHEN {fails} THEN 'The provider refused the request.' ELSE '' END",
    )
    usage = connection.execute("SELECT id FROM runs_usage WHERE run_id = %s", [like]).fetchone()
    if usage:
        _copy(
            connection,
            "runs_usage",
            usage[0],
            count,
            id=None,
            run_id=f"{above} + n",
            recorded_at=f"recorded_at - {_AGE}",
        )


def _tidy(connection: Connection) -> None:
    """Ids go on behind those that were filled in; statistics are as autovacuum leaves them, which
    would else begin while we measure."""
    for table in _TABLES:
        connection.execute(
            f"SELECT setval(pg_get_serial_sequence(%s, 'id'), (SELECT max(id) FROM {table}))",
            [table],
        )
    for table in _TABLES:
        connection.execute(f"VACUUM (ANALYZE) {table}")


def _last_id(connection: Connection, table: str) -> int:
    row = connection.execute(f"SELECT max(id) FROM {table}").fetchone()
    assert row
    return int(row[0])


def _copy(
    connection: Connection, table: str, source: int, count: int, **changed: str | None
) -> None:
    """Copy one row `count` times. `changed` is the SQL of what differs, where `n` counts from 1;
    None leaves a column to its default."""
    changed = {"uid": "gen_random_uuid()", **changed}
    columns = [
        name
        for (name,) in connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s", [table]
        )
    ]
    values = {name: value for name in columns if (value := changed.get(name, name))}
    connection.execute(
        sql.SQL(
            f"INSERT INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())} "
            f"FROM {table}, generate_series(1, {count}) n WHERE {table}.id = {source}"
        )
    )
