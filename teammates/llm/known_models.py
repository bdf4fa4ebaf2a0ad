"""What the catalogue of models that Muster brings (`genai-prices`) knows of a provider's model."""

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version

from django.utils import timezone

# What the catalogue calls our kinds of providers. Servers of one's own are not in it.
_PROVIDERS = {
    "anthropic": "anthropic",
    "azure": "azure",
    "bedrock": "aws",
    "deepseek": "deepseek",
    "google": "google",
    "groq": "groq",
    "mistral": "mistral",
    "openai": "openai",
    "openrouter": "openrouter",
    "xai": "x-ai",
}
# What it calls the lanes of `ModelPrice`.
_LANES = {
    "input": "uncached_input",
    "cache_read": "cache_read",
    "cache_write": "cache_write",
    "output": "output",
}


@dataclass(frozen=True)
class KnownModel:
    """`prices` are dollars per million tokens, by lane of `ModelPrice`, None if they are not known;
    `input_price` is that of a model that only reads, too; `context_window` is in tokens; `source`
    names the catalogue and its release."""

    context_window: int | None
    prices: dict[str, Decimal] | None
    input_price: Decimal | None
    source: str


def find(kind: str, name: str, *, at: datetime | None = None) -> KnownModel | None:
    """A model of a kind of provider, with its prices `at` a time, else now. Where they change with
    the hour, those of the dearest; where they grow with the request, those of an ordinary one, and
    the window ends where it would cost more."""
    from genai_prices.data_snapshot import get_snapshot  # loaded when somebody asks

    provider = _PROVIDERS.get(kind)
    if provider is None:
        return None
    try:
        _, model = get_snapshot().find_provider_model(name, None, provider, None)
    except LookupError:
        return None
    at = at or timezone.now()
    hours = range(24) if isinstance(model.prices, list) else [at.hour]
    every = [model.get_prices(at.replace(hour=hour)) for hour in hours]
    dearest = max(every, key=lambda one: (_base(one, "output") or 0, _base(one, "input") or 0))
    given = {lane: _base(dearest, lane) for lane in _LANES}
    prices: dict[str, Decimal] | None = None
    if given["input"] is not None and given["output"] is not None:
        # A lane without a price of its own costs what input does.
        prices = {
            ours: given["input"] if (price := given[lane]) is None else price
            for lane, ours in _LANES.items()
        }
    window = model.context_window
    tiers = [tier.start for lane in _LANES for tier in getattr(_price(dearest, lane), "tiers", ())]
    if window and tiers:
        window = min(window, *tiers)
    return KnownModel(window, prices, given["input"], source())


def is_newer_than(other: str) -> bool:
    """Whether this is a later release than the `source` of a price; not, where somebody set it."""
    return bool(other) and _numbers(source()) > _numbers(other)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def source() -> str:
    """The catalogue and its release, as prices have it."""
    return f"genai-prices {version('genai-prices')}"


def _price(prices: object, lane: str) -> object:
    return getattr(prices, f"{lane}_mtok", None)


def _base(prices: object, lane: str) -> Decimal | None:
    """Of a price that grows with the size of a request: that of an ordinary one."""
    price = _price(prices, lane)
    base = getattr(price, "base", price)
    return round(base, 6) if isinstance(base, Decimal) else None
