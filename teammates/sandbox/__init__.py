"""Where Python that a model wrote is run: `MUSTER_SANDBOX` says in which sandbox."""

from functools import cache

from django.conf import settings

from teammates.sandbox.base import Ran, Sandbox, SandboxBroke
from teammates.sandbox.places import place

__all__ = ["CONTAINERS", "Ran", "Sandbox", "SandboxBroke", "current", "place", "why_not"]
CONTAINERS = ("docker", "podman")


@cache
def current() -> Sandbox | None:
    """The sandbox of this installation, one for the process; None: no code is run."""
    match settings.SANDBOX:
        case "off":
            return None
        case "monty":
            from teammates.sandbox.monty import Monty

            return Monty()
        case program:
            from teammates.sandbox.container import Container, owner_of

            return Container(program, settings.SANDBOX_IMAGE, owner_of(settings.SECRET_KEY))


def why_not() -> str:
    """Why no code is run here, as a sentence; empty if it is. Not on the event loop."""
    there = current()
    return "MUSTER_SANDBOX is off." if there is None else there.problem()
