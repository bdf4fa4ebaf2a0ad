"""The PostgreSQL channels on which processes wake each other."""

from django.db import connection

EVENTS_CHANNEL = "muster_events"  # payload: `log.News`
WORK_CHANNEL = "muster_work"  # something is queued: claim
CANCEL_CHANNEL = "muster_cancel"  # payload: the run whose worker should stop
LIVE_CHANNEL = "muster_live"  # payload: the organization where a run came into another state
DELIVERIES_CHANNEL = "muster_deliveries"  # something is to be sent


def notify(news: dict[str, str | int]) -> None:
    """Tell each channel its payload when the transaction commits."""
    calls = ", ".join("pg_notify(%s, %s)" for _ in news)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {calls}", [str(word) for pair in news.items() for word in pair])
