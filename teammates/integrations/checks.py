"""Whether apps and models answer: asked for here, carried out by a worker, kept with the row.

No request waits for somebody else's server. Whoever asks sees that it is being asked, and the
answer when it comes. A worker claims a question by moving its time on: one that dies meanwhile
leaves it to be asked again.
"""

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from config.database import in_db
from teammates.access import Access
from teammates.integrations import discovery
from teammates.models import Model, ServerKind, ToolServer
from teammates.providers import Tested, try_out

logger = logging.getLogger("muster.checks")
CHANNEL = "muster_checks"
NOT_ASKED = "It could not be asked: something is wrong with its address."
CLAIMED_FOR = timedelta(seconds=60)  # no question takes longer
LONGEST_TEXT = 300


def ask_server(access: Access, server: ToolServer) -> None:
    """Ask a server what it offers. A REST API is described, not asked. Raises `Forbidden`."""
    access.require("data.mcp_configs.manage", server)
    if server.kind == ServerKind.REST_API:
        discovery.record_check(server, discovery.ServerCheck(server.described))
        return
    server.check_due_at = timezone.now()
    _ask(server, "check_due_at")


def ask_model(access: Access, model: Model) -> None:
    """Make one small call to a model, which costs next to nothing. Raises `Forbidden`."""
    access.require("data.llm_credentials.manage", model)
    model.test_due_at = timezone.now()
    _ask(model, "test_due_at")


def _ask(row: ToolServer | Model, field: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        row.save(update_fields=[field])
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])


@dataclass(frozen=True)
class Check:
    """One question that is due."""

    row: ToolServer | Model

    @property
    def organization_id(self) -> int:
        return self.row.organization_id


def due() -> "list[QuerySet[Any]]":
    return [
        ToolServer.objects.filter(check_due_at__lte=Now()),
        Model.objects.filter(test_due_at__lte=Now()),
    ]


def claim_due(*, busy: set[int], limit: int) -> list[Check]:
    """Take up to `limit` questions that are due, none of the `busy` organizations, and one of each:
    a server that lets others wait keeps only its own organization waiting."""
    with transaction.atomic():
        return _claim(ToolServer, "check_due_at", busy, limit) + _claim(
            Model, "test_due_at", busy, limit
        )


def _claim(
    kind: type[ToolServer] | type[Model], field: str, busy: set[int], limit: int
) -> list[Check]:
    rows: Any = kind._default_manager.select_for_update(skip_locked=True, no_key=True, of=("self",))
    rows = rows.filter(**{f"{field}__lte": timezone.now()}).exclude(organization__in=busy)
    related = "end_user" if kind is ToolServer else "provider__organization"
    found: dict[int, Any] = {}
    for row in rows.select_related(related).order_by(field)[:limit]:
        found.setdefault(row.organization_id, row)
    for row in found.values():
        setattr(row, field, timezone.now() + CLAIMED_FOR)
        row.save(update_fields=[field])
    return [Check(row) for row in found.values()]


async def carry_out(check: Check) -> None:
    """Ask, and keep the answer. A failure is an answer."""
    row = check.row
    if isinstance(row, ToolServer):
        try:
            checked = await discovery.ask(row.connection)
        except Exception:  # whatever else a library raises about an address
            logger.exception("%s could not be asked", row)
            checked = discovery.ServerCheck([], NOT_ASKED)
        await in_db(_record_server, row, checked)
    else:
        try:
            tested = await try_out(row.provider.connection, row.name)
        except Exception:
            logger.exception("%s could not be tried", row)
            tested = Tested(0, error=NOT_ASKED)
        await in_db(_record_model, row, tested)


def _record_server(server: ToolServer, checked: discovery.ServerCheck) -> None:
    discovery.record_check(server, checked)
    # What was asked for meanwhile, after a change, is another question.
    ToolServer.objects.filter(pk=server.pk, check_due_at=server.check_due_at).update(
        check_due_at=None
    )


def _record_model(model: Model, tested: Tested) -> None:
    Model.objects.filter(pk=model.pk, test_due_at=model.test_due_at).update(
        test_due_at=None,
        tested_at=timezone.now(),
        test_error=tested.error[:LONGEST_TEXT],
        test_answer=tested.text[:LONGEST_TEXT],
        test_ms=tested.milliseconds,
    )
