"""Errors of starting Muster: each is one sentence for the person at the terminal."""


class StartError(Exception):
    """Muster cannot start; the message says why and what to do."""
