"""Vectors of texts: texts that mean the same are near each other."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from teammates.providers import Connection, module_of
from teammates.providers.base import ProviderError
from teammates.providers.kinds import KINDS

SECONDS = 45.0
MOST_NUMBERS = 16_000  # of a vector; the database's limit


@dataclass(frozen=True)
class Embedded:
    """A vector for each text, in order, and how many tokens that took (0 if it is not told)."""

    vectors: list[list[float]]
    tokens: int


async def embed(
    connection: Connection,
    model: str,
    texts: Sequence[str],
    kind: Literal["document", "query"],
    *,
    seconds: float = SECONDS,
) -> Embedded:
    """Ask an embedding model for the vectors of texts, once. Some models make others of what is
    searched for (`query`) than of what is searched. Raises `ProviderError`."""
    label = KINDS[connection.kind].label
    if not KINDS[connection.kind].has_embeddings:
        raise ProviderError("provider.rejected", f"{label} has no embedding models.")
    module = await module_of(connection)
    # Vendors' packages are loaded where somebody asks for them.
    from teammates.providers.vendor import make_http_client
    from teammates.providers.vendor_errors import explained

    http = make_http_client(may_be_private=connection.may_be_private)
    try:
        async with asyncio.timeout(seconds), http:
            with explained(label, model):
                asked = module.make_embedding_model(connection, model, http)
                result = await asked.embed(list(texts), input_type=kind)
                vectors = [[float(number) for number in vector] for vector in result.embeddings]
                tokens = int(result.usage.input_tokens)
    except TimeoutError:
        raise ProviderError(
            "provider.silent", f"{label} did not answer in {seconds:g} seconds.", is_transient=True
        ) from None
    _check(vectors, len(texts), label)
    return Embedded(vectors, tokens)


def _check(vectors: list[list[float]], count: int, label: str) -> None:
    lengths = {len(vector) for vector in vectors}
    is_sound = (
        len(vectors) == count
        and len(lengths) == 1
        and 0 < max(lengths) <= MOST_NUMBERS
        and all(math.isfinite(number) for vector in vectors for number in vector)
        and all(any(vector) for vector in vectors)
    )
    if not is_sound:
        raise ProviderError(
            "provider.malformed",
            f"{label} answered with something that is not the vectors of {count} texts. "
            "Choose an embedding model.",
        )
