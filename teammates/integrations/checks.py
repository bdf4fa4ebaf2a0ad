"""Whether apps and models answer: asked for here, carried out by a worker, kept with the row.

No request waits for somebody else's server. Whoever asks sees that it is being asked, and the
answer when it comes. A worker claims a question by moving its time on: one that dies meanwhile
leaves it to be asked again.
"""

import asyncio
import logging
from dataclasses import dataclass, replace
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
from teammates.providers import Tested, listing, ollama, try_out
from teammates.providers.base import ProviderError

logger = logging.getLogger("muster.checks")
CHANNEL = "muster_checks"
NOT_ASKED = "It could not be asked: something is wrong with its address."
CLAIMED_FOR = timedelta(seconds=60)  # no question takes longer
PULL_SECONDS = 3 * 3600
TOLD_SECONDS = 1.0  # between two words about how far a pull is
LEAST_WINDOW = 1_000  # tokens
MOST_PULLS = 4  # of this process at once, one of an organization
LONGEST_TEXT = 300
PULLING = "Pulling it: "
_pulling: set[int] = set()  # organizations


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
    if model.test_answer.startswith(PULLING) and model.test_due_at is not None:
        return  # it is asked once it is there
    model.test_due_at, model.test_answer = timezone.now(), ""
    _ask(model, "test_due_at", "test_answer")


def _ask(row: ToolServer | Model, *fields: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        row.save(update_fields=fields)
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])


@dataclass(eq=False)
class Check:
    """One question that is due. One that `is_long` leaves its organization free to ask others."""

    row: Any  # of an organization
    is_long: bool = False

    def __str__(self) -> str:
        return str(self.row)

    @property
    def organization_id(self) -> int:
        return int(self.row.organization_id)


def due() -> "list[QuerySet[Any]]":
    return [
        ToolServer.objects.filter(check_due_at__lte=Now()),
        Model.objects.filter(test_due_at__lte=Now()),
    ]


def claim_due(*, busy: set[int], limit: int) -> list[Check]:
    """Take up to `limit` questions that are due, none of the `busy` organizations, and one of each:
    a server that lets others wait keeps only its own organization waiting."""
    servers = ToolServer.objects.select_related("end_user")
    models = Model.objects.select_related("provider__organization")
    with transaction.atomic():
        return claim(servers, "check_due_at", busy=busy, limit=limit) + claim(
            models, "test_due_at", busy=busy, limit=limit
        )


def claim(kind: "QuerySet[Any]", field: str, *, busy: set[int], limit: int) -> list[Check]:
    """Take rows whose time in `field` has come, one of each organization that is not busy; call in
    a transaction."""
    rows = kind.select_for_update(skip_locked=True, no_key=True, of=("self",))
    rows = rows.filter(**{f"{field}__lte": timezone.now()}).exclude(organization__in=busy)
    found: dict[int, Any] = {}
    for row in rows.order_by(field)[:limit]:
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
            tested = await _try_out(check, row)
        except Exception:
            logger.exception("%s could not be tried", row)
            tested = Tested(0, error=NOT_ASKED)
        await in_db(_record_model, row, tested)


async def _try_out(check: Check, model: Model) -> Tested:
    """Try a model out, and ask how much it reads; one that Ollama does not have is pulled first."""
    connection = model.provider.connection
    tested = await try_out(connection, model.name)
    if model.provider.kind != "ollama":
        return replace(tested, context_window=await listing.context_window(connection, model.name))
    if tested.error_class == "provider.model_not_found":
        if check.organization_id in _pulling or len(_pulling) >= MOST_PULLS:
            return Tested(0, error="Another model is being pulled. Test this one once it is there.")
        check.is_long = True
        _pulling.add(check.organization_id)
        try:
            async with asyncio.timeout(PULL_SECONDS):
                await _pull(model)
        except ProviderError as error:
            return Tested(0, error=str(error))
        except TimeoutError:
            return Tested(0, error="It was pulled for hours and is not there yet. Test it again.")
        finally:
            _pulling.discard(check.organization_id)
        tested = await try_out(connection, model.name)
    return replace(tested, context_window=await ollama.context_window(connection, model.name))


async def _pull(model: Model) -> None:
    """Pull a model, and keep with it how far that is. Raises `ProviderError`, also where nobody
    wants it any more."""
    done = {"completed": 0, "total": 0}

    def tell(completed: int, total: int) -> None:
        done.update(completed=completed, total=total)

    pulling = asyncio.ensure_future(ollama.pull(model.provider.connection, model.name, tell))
    try:
        while not (await asyncio.wait([pulling], timeout=TOLD_SECONDS))[0]:
            if not await in_db(_keep_progress, model, **done):
                raise ProviderError("provider.failed", "The pull was stopped.")
        await pulling
    finally:
        pulling.cancel()


def _keep_progress(model: Model, *, completed: int, total: int) -> bool:
    """Also keeps the claim; False if it is another question by now, or the model is gone."""
    until = timezone.now() + CLAIMED_FOR
    far = f"{100 * completed // total} % of {total / 1e9:.1f} GB" if total else "begun"
    still = Model.objects.filter(pk=model.pk, test_due_at=model.test_due_at)
    if not still.update(test_due_at=until, test_answer=f"{PULLING}{far}"):
        return False
    model.test_due_at = until
    return True


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
    if window := tested.context_window:
        window = max(window, LEAST_WINDOW)
        told = Model.objects.filter(pk=model.pk)
        told.lower(context_window=window, max_output_tokens=window // 2)
