"""Whom a credential signs in: kept for seconds, and forgotten as soon as anything about it changes.

PostgreSQL itself says that a key, a member, a person, an organization or a session changed
(migration 0017), whoever changed it, and every process listens. One that cannot listen at this
moment keeps nothing.
"""

import copy
from collections.abc import Callable, Hashable
from dataclasses import replace
from threading import Lock
from typing import TypeVar

from cachetools import TTLCache
from django.conf import settings
from django.db import models

from config.wakeups import WakeUps
from teammates.access import Access

CHANNEL = "muster_access"
MOST_KEPT = 10_000
M = TypeVar("M", bound=models.Model)


class AccessCache:
    """One per process, for all of its threads."""

    def __init__(self) -> None:
        self._kept: TTLCache[Hashable, Access] = TTLCache(MOST_KEPT, settings.ACCESS_SECONDS)
        self._lock = Lock()
        self._changes = 0
        self._wakeups: WakeUps | None = None

    def follow(self, wakeups: WakeUps) -> None:
        """Keep accesses from now on, as long as `wakeups` listens."""
        wakeups.subscribe(CHANNEL, lambda _: self.clear())
        self._wakeups = wakeups

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._changes += 1

    def drop(self, credential: Hashable) -> None:
        with self._lock:
            self._kept.pop(credential, None)

    def get(self, credential: Hashable, load: Callable[[], Access | None]) -> Access | None:
        """The access of a credential, with rows of the caller's own; from `load` where it is not
        kept. None, and what `load` raises, are not kept."""
        if self._wakeups is None or not self._wakeups.is_listening:
            return load()
        with self._lock:
            kept, changes = self._kept.get(credential), self._changes
        if kept is None:
            kept = load()
            if kept is None:
                return None
            with self._lock:
                if changes == self._changes:  # what was read may be what was changed
                    self._kept[credential] = kept
        return _copied(kept)


def _copied(access: Access) -> Access:
    """Callers change the rows of an access before they save them, and may fail to."""
    return replace(
        access,
        organization=_copied_row(access.organization),
        user=_copied_row(access.user) if access.user else None,
        api_key=_copied_row(access.api_key) if access.api_key else None,
    )


def _copied_row(row: M) -> M:
    twin = type(row).__new__(type(row))
    twin.__dict__.update(row.__dict__)
    twin._state = copy.copy(row._state)
    twin._state.fields_cache = dict(row._state.fields_cache)
    return twin


cache = AccessCache()
