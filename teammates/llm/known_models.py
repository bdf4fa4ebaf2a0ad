"""What the catalogue of models that Muster brings (`genai-prices`) knows of a provider's model."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version

from django.utils import timezone

# What the catalogue calls our kinds of providers. Servers of one's own are not in it.
_PROVIDERS = {
    "anthropic": "anthropic",
    "azure": "azure",
    "deepseek": "deepseek",
    "groq": "groq",
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
    `context_window` is in tokens; `source` names the catalogue and its release."""

    context_window: int | None
    prices: dict[str, Decimal] | None
    source: str


def find(kind: str, name: str, *, at: datetime | None = None) -> KnownModel | None:
    """A model of a kind of provider, with the prices that are valid `at` a time, else now."""
    from genai_prices.data_snapshot import get_snapshot  # loaded when somebody asks

    provider = _PROVIDERS.get(kind)
    if provider is None:
        return None
    try:
        _, model = get_snapshot().find_provider_model(name, None, provider, None)
    except LookupError:
        return None
    of_model = model.get_prices(at or timezone.now())
    given = {lane: _base(getattr(of_model, f"{lane}_mtok", None)) for lane in _LANES}
    prices: dict[str, Decimal] | None = None
    if given["input"] is not None and given["output"] is not None:
        # A lane without a price of its own costs what input does.
        prices = {
            ours: given["input"] if (price := given[lane]) is None else price
            for lane, ours in _LANES.items()
        }
    return KnownModel(model.context_window, prices, f"genai-prices {version('genai-prices')}")


def _base(price: object) -> Decimal | None:
    """Of a price that grows with the size of a request: that of an ordinary one."""
    base = getattr(price, "base", price)
    return base if isinstance(base, Decimal) else None
