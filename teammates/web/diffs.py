"""What differs between two texts."""

import difflib

from teammates import timebox

SECONDS = 1  # of work for a comparison
TOO_DIFFERENT = (" ", "These texts are too different to be compared here.")


def changed_lines(before: str, after: str, *, around: int = 3) -> list[tuple[str, str]]:
    """Sign (+, -, @ or space) and line of what changes, with lines `around` it; empty if nothing
    does. `{% diff %}` shows it. Not on the event loop."""
    try:
        return timebox.within(SECONDS, compare, before, after, around)
    except timebox.TooCostly:
        return [TOO_DIFFERENT]


def compare(before: str, after: str, around: int) -> list[tuple[str, str]]:
    """`changed_lines` itself; call it within a budget."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=around)
    return [(line[:1], line[1:]) for line in list(lines)[2:]]
