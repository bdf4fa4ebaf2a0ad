"""Whose words a run acts on, where they are somebody's outside of the organization."""

from dataclasses import replace

from runs.models import Run, Task
from teammates.access import Access
from teammates.models import Teammate
from threads.models import Thread


def narrowed(access: Access, origin: str) -> Access:
    """`access`, as far as an origin's words reach: to what they had a part in before. An empty
    origin narrows nothing."""
    if not origin:
        return replace(access, origin="", reached={})
    runs = Run.objects.filter(organization=access.organization, origin=origin)
    reached = {
        Run: runs.values("pk"),
        Task: runs.values("task"),
        Thread: runs.values("thread"),
        Teammate: runs.values("teammate"),
    }
    return replace(access, origin=origin, reached=reached)
