"""Run a Muster command: `uv run manage.py start` serves everything."""

import gc
import os
import sys

from config.errors import StartError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django
    from django.core.management import execute_from_command_line

    try:
        gc.disable()  # what is loaded now stays: to look through it all the time is a quarter of it
        django.setup()
        gc.freeze()
        gc.enable()
        execute_from_command_line(sys.argv)
    except StartError as error:
        sys.exit(f"muster: {error}")


if __name__ == "__main__":
    main()
