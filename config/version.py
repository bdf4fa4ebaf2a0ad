"""Which version of Muster this is."""

import tomllib
from functools import cache
from pathlib import Path

from django.conf import settings


@cache
def version() -> str:
    """The version in `pyproject.toml`: the project is run from its folder, not installed."""
    project = tomllib.loads(Path(settings.BASE_DIR, "pyproject.toml").read_text())
    return str(project["project"]["version"])
