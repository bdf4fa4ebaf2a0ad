"""Search by meaning: which model makes the vectors of passages, and the making of them.

A worker claims an organization by moving its time on, asks for the vectors of a few passages, and
goes on until none is left. Who dies meanwhile leaves them to be asked for again.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal

from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from config.database import in_db
from teammates.access import Access
from teammates.errors import Invalid, Unavailable
from teammates.integrations import checks
from teammates.integrations.checks import Check
from teammates.llm import known_models
from teammates.models import EmbeddingModel, Organization, Passage, PassageVector, Provider
from teammates.providers.base import ProviderError
from teammates.providers.embeddings import Embedded, embed
from teammates.trust import audit

CHANNEL = "muster_embedding"
EXTENSION = "vector"  # pgvector
BATCH = 32  # passages in a request
LONGEST_NAME, LONGEST_ERROR = 200, 300
QUERY_SECONDS = 8.0  # that a search waits for its vector
LONGEST_PAUSE = timedelta(hours=1)  # before what failed is tried again
# What is wrong with a passage, and not with the server or the key.
_OF_THE_TEXT = ("provider.rejected", "provider.context_too_long", "provider.too_large")


def of_organization(organization: Organization) -> EmbeddingModel | None:
    found = EmbeddingModel.objects.filter(organization=organization)
    return found.select_related("provider__organization").first()


@audit.recorded("embedding_model.set", makes=EmbeddingModel)
def choose(access: Access, provider: Provider, name: str) -> EmbeddingModel:
    """Have the passages of the organization's documents found by meaning too. The vectors of
    another model are thrown away; the same one again is asked again at once. Raises `Invalid`,
    `Unavailable` (the database has no pgvector)."""
    access.require("data.llm_credentials.manage", provider)
    name = name.strip()
    if not 1 <= len(name) <= LONGEST_NAME:
        raise Invalid(f"name must have 1 to {LONGEST_NAME} characters.")
    if not provider.has_embeddings:
        raise Invalid(f"provider: {provider.name} has no embedding models.")
    if not provider.is_ready:
        raise Invalid(f"provider: {provider.name} has no key yet. Save one in Models & prices.")
    with transaction.atomic():
        _make_extension()
        # The organization's row is the lock: two people choose one after the other.
        Organization.objects.select_for_update(no_key=True).get(pk=access.organization.pk)
        found = EmbeddingModel.objects.filter(organization=access.organization).first()
        if found is None or (found.provider_id, found.name) != (provider.pk, name):
            if found is not None:
                _delete(found)
            found = EmbeddingModel.objects.create(
                organization=access.organization, provider=provider, name=name
            )
        found.vectors.filter(numbers=[]).delete()  # what it refused is asked for again
        wake(access.organization.pk)
    return found


def _make_extension() -> None:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"CREATE EXTENSION IF NOT EXISTS {EXTENSION}")
    except DatabaseError as error:
        raise Unavailable(
            "This PostgreSQL cannot search by meaning: it has no pgvector, or Muster may not "
            "switch it on. Install it there, run CREATE EXTENSION vector in Muster's database, "
            "and try again."
        ) from error


@audit.recorded("embedding_model.remove")
def turn_off(access: Access, model: EmbeddingModel) -> None:
    """Search by words alone. The vectors are deleted."""
    access.require("data.llm_credentials.manage", model)
    with transaction.atomic():
        _delete(model)


def _delete(model: EmbeddingModel) -> None:
    # Locked first: whoever is writing vectors of it waits, and then finds it gone.
    EmbeddingModel.objects.select_for_update().filter(pk=model.pk).first()
    model.delete()


def wake(organization_id: int) -> None:
    """There are new passages; call in the transaction that writes them."""
    models = EmbeddingModel.objects.filter(organization=organization_id)
    if models.update(due_at=Now()):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])


def progress(model: EmbeddingModel) -> tuple[int, int]:
    """How many of the organization's passages have been asked about, and how many there are."""
    passages = Passage.objects.filter(document__organization=model.organization_id)
    return model.vectors.count(), passages.count()


def cost_of(model: EmbeddingModel) -> Decimal | None:
    """Dollars for all its tokens at today's price; None if that is not known."""
    known = known_models.find(model.provider.kind, model.name)
    if known is None or known.input_price is None:
        return None
    return model.tokens * known.input_price / 1_000_000


async def vector_of(organization: Organization, query: str) -> list[float] | None:
    """Where a query is among the meanings, for `passages.search_passages`; None where no model is
    set. Raises `ProviderError`."""
    model = await in_db(of_organization, organization)
    if model is None:
        return None
    embedded = await embed(
        model.provider.connection, model.name, [query], "query", seconds=QUERY_SECONDS
    )
    await in_db(_count_tokens, model, embedded.tokens)
    return embedded.vectors[0]


def _count_tokens(model: EmbeddingModel, tokens: int) -> None:
    EmbeddingModel.objects.filter(pk=model.pk).update(tokens=F("tokens") + tokens)


# --- the worker's side ----------------------------------------------------------------------------


def due() -> "QuerySet[EmbeddingModel]":
    return EmbeddingModel.objects.filter(due_at__lte=Now())


def claim_due(*, busy: set[int], limit: int) -> list[Check]:
    """Take up to `limit` organizations whose passages may want vectors, none of the `busy`."""
    models = EmbeddingModel.objects.select_related("provider__organization")
    with transaction.atomic():
        return checks.claim(models, "due_at", busy=busy, limit=limit)


async def carry_out(check: Check) -> None:
    """Ask for the vectors of the next few passages, and keep them."""
    model: EmbeddingModel = check.row
    passages = await in_db(_next_passages, model)
    if not passages:
        await in_db(_rest, model)
        return
    try:
        embedded = await _embedded(model, passages)
    except ProviderError as error:
        await in_db(_record_failure, model, error)
    else:
        await in_db(_keep, model, passages[: len(embedded.vectors)], embedded)


async def _embedded(model: EmbeddingModel, passages: Sequence[Passage]) -> Embedded:
    """The vectors of the first of them: of all, unless the model refuses one. The vector of a text
    that is refused by itself is empty, so that it holds up no other. Raises `ProviderError`."""
    while True:
        texts = [_text_of(one) for one in passages]
        try:
            return await embed(model.provider.connection, model.name, texts, "document")
        except ProviderError as error:
            if error.error_class not in _OF_THE_TEXT:
                raise
            if len(passages) == 1:
                # A model that has never answered is the wrong one; another refused this text.
                if await in_db(model.vectors.exclude(numbers=[]).exists):
                    return Embedded([[]], 0)
                raise
        passages = passages[: len(passages) // 2]


def _text_of(passage: Passage) -> str:
    """A passage with the names of what it stands in, which it mostly does not repeat."""
    return f"{passage.document.name}\n{passage.heading}\n\n{passage.content}"


def _next_passages(model: EmbeddingModel) -> list[Passage]:
    without = Passage.objects.filter(document__organization=model.organization_id, vector=None)
    named = without.select_related("document").defer("words", "document__content")
    return list(named.order_by("pk")[:BATCH])


def _rest(model: EmbeddingModel) -> None:
    """Nothing is left to be done; what was written meanwhile has moved the time."""
    EmbeddingModel.objects.filter(pk=model.pk, due_at=model.due_at).update(
        due_at=None, error="", failures=0
    )


def _record_failure(model: EmbeddingModel, error: ProviderError) -> None:
    pause = timedelta(seconds=error.retry_after or min(10 * 2**model.failures, 3600))
    EmbeddingModel.objects.filter(pk=model.pk, due_at=model.due_at).update(
        due_at=timezone.now() + min(pause, LONGEST_PAUSE),
        error=str(error)[:LONGEST_ERROR],
        failures=min(model.failures + 1, 20),
    )


def _keep(model: EmbeddingModel, passages: Sequence[Passage], embedded: Embedded) -> None:
    """The rest is due at once. Nobody is waited for who writes documents: a passage that is being
    replaced is left out."""
    vectors = {
        passage.pk: PassageVector(passage=passage, model=model, numbers=numbers)
        for passage, numbers in zip(passages, embedded.vectors, strict=True)
    }
    with suppress(IntegrityError), transaction.atomic():  # another model was chosen meanwhile
        still = Passage.objects.select_for_update(skip_locked=True, no_key=True)
        here = list(still.filter(pk__in=vectors).values_list("pk", flat=True))
        PassageVector.objects.bulk_create([vectors[key] for key in here], ignore_conflicts=True)
    EmbeddingModel.objects.filter(pk=model.pk).update(
        due_at=Now(), error="", failures=0, tokens=F("tokens") + embedded.tokens
    )
