"""Forks workers on request: Django is imported once, so that a new one is there at once.

Each line on its input starts one. What it says when it is ready goes to the output of this process.
"""

import os
import signal
import sys


def main() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from django.core.management import call_command

    from runs import runtime  # noqa: F401  # what a worker needs, before the first fork

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that were killed
    while os.read(sys.stdin.fileno(), 1):
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            call_command("worker")
            os._exit(0)


if __name__ == "__main__":  # processes of the worker import this module again
    main()
