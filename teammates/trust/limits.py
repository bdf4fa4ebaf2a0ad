"""How often something may happen, counted in PostgreSQL for all processes together."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.conf import settings
from django.db import connection
from django.utils import timezone

from teammates.access import Access
from teammates.errors import TooMany
from teammates.fields import hash_secret
from teammates.models import LimitCount

# One statement for all counts of a request, in one order, so that two requests never wait in a
# ring. A count whose window is over begins anew.
_TAKE = """
INSERT INTO teammates_limitcount AS known (name, taken, ends_at)
SELECT name, 1, statement_timestamp() + make_interval(secs => seconds)
FROM unnest(%s::text[], %s::float8[]) AS asked (name, seconds) ORDER BY name
ON CONFLICT (name) DO UPDATE SET
    taken = CASE WHEN known.ends_at <= statement_timestamp() THEN 1 ELSE known.taken + 1 END,
    ends_at = CASE WHEN known.ends_at <= statement_timestamp() THEN excluded.ends_at
                   ELSE known.ends_at END
RETURNING name, taken, extract(epoch FROM ends_at - statement_timestamp())
"""


@dataclass(frozen=True)
class Limit:
    """At most so many within so many seconds, from the first one on."""

    what: str  # as the refusal says it: Too many sign-ins
    most: int
    seconds: int

    def name(self, who: object) -> str:
        """The name of one count. No address or name is stored, only its hash."""
        return hash_secret(f"{self.what}/{self.seconds}:{who}")


MINUTE, HOUR, DAY = 60, 3600, 24 * 3600
SIGN_INS = Limit("sign-ins from this address", 60, MINUTE)
# Wrong passwords: of one source for one account, and of all strange ones for it.
GUESSES = Limit("wrong passwords", 10, 5 * MINUTE)
STRANGE_GUESSES = Limit("wrong passwords for this account", 100, HOUR)
SIGN_UPS = Limit("sign-ups from this address", 10, HOUR)
ASKED_MAILS = Limit("mails asked for from this address", 20, HOUR)
MAILS_TO = Limit("mails to this address", 5, HOUR)
RESETS_TO = Limit("links to set a new password of this account", 5, HOUR)
INVITATIONS = Limit("invitations", 100, DAY)
NOTICES_TO = Limit("mails to this address", 60, HOUR)
NOTICES = Limit("mails of your organization", 1000, HOUR)
NOTICES_FROM_OUTSIDE = Limit("notices of what this sender wrote", 5, HOUR)
UPLOADS = Limit("uploads", 120, MINUTE)
UPLOADS_OF_ALL = Limit("uploads in your organization", 600, MINUTE)
BUDGETS = Limit("new budgets in your organization", 60, HOUR)
EXPORTS = Limit("exports", 10, HOUR)


def take(*counted: tuple[Limit, object]) -> None:
    """Count one more for each pair of a limit and whose it is. Raises `TooMany` above one.

    Outside of a transaction that may be undone: what is refused counts too.
    """
    if not settings.LIMITS:
        return
    limits = {limit.name(who): limit for limit, who in counted}
    with connection.cursor() as cursor:
        seconds = [float(limit.seconds) for limit in limits.values()]
        cursor.execute(_TAKE, [list(limits), seconds])
        rows = cursor.fetchall()
    waits = [
        (math.ceil(left), limits[name]) for name, taken, left in rows if taken > limits[name].most
    ]
    if waits:
        wait, limit = max(waits, key=lambda row: row[0])
        raise TooMany(
            f"Too many {limit.what}; try again in {_in_words(wait)}.",
            retry_after=max(wait, 1),
        )


def forget(*counted: tuple[Limit, object]) -> None:
    """Reset these counts: whoever they were about has shown that they may."""
    if settings.LIMITS:
        names = [limit.name(who) for limit, who in counted]
        LimitCount.objects.filter(name__in=names).delete()


def forget_ended() -> None:
    LimitCount.objects.filter(ends_at__lt=timezone.now()).delete()


def whoever(access: Access) -> str:
    """A key, or a person, as limits count them."""
    if access.api_key is not None:
        return f"key {access.api_key.pk}"
    return f"user {access.user.pk}" if access.user else f"organization {access.organization.pk}"


def _in_words(seconds: int) -> str:
    if seconds < 2 * MINUTE:
        return f"{max(seconds, 1)} seconds"
    return f"{math.ceil(seconds / MINUTE)} minutes"


# --- at the same time ---------------------------------------------------------------------------
class Room:
    """At most `most` at once in this process; whoever finds it full is refused, not kept waiting
    on a thread that others need."""

    def __init__(self, what: str, most: int) -> None:
        self._what = what
        self._places = threading.BoundedSemaphore(most)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Raises `TooMany` where there is none."""
        if not self._places.acquire(blocking=False):
            raise TooMany(f"Too many {self._what} at this moment; try again.", retry_after=2)
        try:
            yield
        finally:
            self._places.release()
