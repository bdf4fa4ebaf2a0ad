"""At most one run for an `Idempotency-Key`."""

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import OperationalError, connection, transaction
from django.utils import timezone

from runs.models import IdempotencyKey, Run
from teammates.access import Access
from teammates.errors import Conflict, Invalid, Unavailable

KEY_LIFE = timedelta(hours=24)
CLAIM_SECONDS = 20  # that a second request with a key waits for the first


def create_idempotently(
    access: Access, key: str | None, request: Any, make: Callable[[], Run]
) -> tuple[Run, bool]:
    """Make a run, or return the one that `key` made within a day, and whether it is a replay.

    `request` is what must be the same in both. Raises `Conflict` if it is not, `Unavailable` while
    the first is still at it.
    """
    if key is None:
        return make(), False
    if not 1 <= len(key) <= 255:
        raise Invalid("Idempotency-Key must have 1 to 255 characters.")
    text = json.dumps(request, sort_keys=True, default=str)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    with transaction.atomic():
        # Held to the end of the transaction: of two requests with one key the second waits.
        with connection.cursor() as cursor:
            lock = f"{access.organization.pk}:{key}"
            cursor.execute(f"SET LOCAL lock_timeout = '{CLAIM_SECONDS}s'")
            try:
                cursor.execute("SELECT pg_advisory_xact_lock(43, hashtext(%s))", [lock])
            except OperationalError:
                raise Unavailable(
                    "Another request with this Idempotency-Key is still being worked on; nothing "
                    "was started. Try again.",
                    code="idempotency_claim_failed",
                ) from None
            cursor.execute("SET LOCAL lock_timeout = 0")
        known = (
            IdempotencyKey.objects.filter(organization=access.organization, key=key)
            .select_related("run")
            .first()
        )
        if known is not None and known.claimed_at > timezone.now() - KEY_LIFE:
            is_theirs = Run.objects.visible_to(access).filter(pk=known.run_id).exists()
            if known.fingerprint != fingerprint or not is_theirs:
                raise Conflict(
                    "This Idempotency-Key was used for a different request.",
                    code="idempotency_key_reuse",
                )
            return known.run, True
        run = make()
        IdempotencyKey.objects.update_or_create(
            organization=access.organization,
            key=key,
            defaults={"fingerprint": fingerprint, "run": run, "claimed_at": timezone.now()},
        )
        return run, False
