"""The timezones that forms offer."""

import zoneinfo

_REGIONS = (
    "Africa",
    "America",
    "Asia",
    "Atlantic",
    "Australia",
    "Europe",
    "Indian",
    "Pacific",
)


def _names() -> list[str]:
    """UTC and the names that people know: a region and a city."""
    known = zoneinfo.available_timezones()
    return ["UTC", *sorted(z for z in known if z.partition("/")[0] in _REGIONS and "/" in z)]


TIMEZONES = _names()
