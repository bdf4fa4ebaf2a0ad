"""What differs between two texts."""

import difflib


def changed_lines(before: str, after: str, *, around: int = 3) -> list[tuple[str, str]]:
    """Sign (+, -, @ or space) and line of what changes, with lines `around` it; empty if nothing
    does. `{% diff %}` shows it."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), lineterm="", n=around
    )  # fmt: skip
    return [(line[:1], line[1:]) for line in list(lines)[2:]]
