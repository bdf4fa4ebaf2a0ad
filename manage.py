"""Run a Muster command: `uv run manage.py start` serves everything."""

import os
import sys

from config.errors import StartError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except StartError as error:
        sys.exit(f"muster: {error}")


if __name__ == "__main__":
    main()
