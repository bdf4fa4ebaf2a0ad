"""How a model chooses its words. Not every model takes every setting: a provider that refuses one
is asked again without it."""

from collections.abc import Callable

from teammates.errors import Invalid
from teammates.types import JSON

TIERS = ("auto", "default", "flex", "priority")
MOST_STOPS, LONGEST_STOP = 4, 100
LARGEST_SEED = 2**31 - 1
Check = Callable[[object], str]  # what is wrong with a value, empty if nothing


def checked(given: JSON) -> JSON:
    """The settings that were given a value: `temperature` (0 to 2), `top_p` (0 to 1), `stop` (up to
    4 texts), `seed`, `service_tier`. Raises `Invalid`."""
    if unknown := sorted(given.keys() - _CHECKS.keys()):
        raise Invalid(f"sampling: unknown setting {', '.join(unknown)}.")
    settings = {name: value for name, value in given.items() if value not in (None, "", [])}
    for name, value in settings.items():
        if wrong := _CHECKS[name](value):
            raise Invalid(f"{name} {wrong}.")
    return settings


def _between(least: float, most: float) -> Check:
    def check(value: object) -> str:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = is_number and least <= value <= most  # type: ignore[operator]
        return "" if fits else f"must be a number from {least:g} to {most:g}"

    return check


def _stop(value: object) -> str:
    if not isinstance(value, list) or len(value) > MOST_STOPS:
        return f"must be up to {MOST_STOPS} texts"
    fits = all(isinstance(text, str) and 1 <= len(text) <= LONGEST_STOP for text in value)
    return "" if fits else f"must be texts of 1 to {LONGEST_STOP} characters"


def _seed(value: object) -> str:
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_SEED
    return "" if fits else f"must be a whole number from 0 to {LARGEST_SEED}"


def _tier(value: object) -> str:
    return "" if value in TIERS else f"must be one of {', '.join(TIERS)}"


_CHECKS: dict[str, Check] = {
    "temperature": _between(0, 2),
    "top_p": _between(0, 1),
    "stop": _stop,
    "seed": _seed,
    "service_tier": _tier,
}
