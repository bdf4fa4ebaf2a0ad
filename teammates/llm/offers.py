"""What a provider offers: its own list, and what else is known of each model of it."""

import asyncio
from dataclasses import dataclass

from teammates.llm import known_models
from teammates.llm.known_models import KnownModel
from teammates.providers import Connection, what_they_take
from teammates.providers.base import Takes
from teammates.providers.listing import ListedModel, list_models

# Whose lists do not say what a model takes: the known ones of these take what their API does.
_TAKE_WHAT_THE_API_DOES = ("azure", "google", "openai")


@dataclass(frozen=True)
class Offer:
    """`context_window`, in tokens, `takes` and `known` are None where nobody tells."""

    name: str
    context_window: int | None
    takes: Takes | None
    known: KnownModel | None


async def list_offers(connection: Connection, *, embeddings: bool = False) -> list[Offer]:
    """By name; `embeddings`: of models that make vectors. Raises `ProviderError`."""
    listed = await list_models(connection, embeddings=embeddings)
    takes = {} if embeddings else await what_they_take(connection, [one.name for one in listed])
    return await asyncio.to_thread(
        lambda: [_offer(connection.kind, one, takes.get(one.name)) for one in listed]
    )


def _offer(kind: str, listed: ListedModel, shown: Takes | None) -> Offer:
    """`shown`: what its provider's API can show to models at most."""
    known = known_models.find(kind, listed.name)
    takes = listed.takes
    if takes is None and known and kind in _TAKE_WHAT_THE_API_DOES:
        takes = shown
    if takes and shown:
        takes = Takes(takes.pictures and shown.pictures, takes.pdfs and shown.pdfs)
    windows = [listed.context_window, known.context_window if known else None]
    return Offer(listed.name, min(filter(None, windows), default=None), takes, known)
