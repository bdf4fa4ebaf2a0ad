"""What an account holds before a person has claimed it, and whose it is from then on."""

from django.db import transaction

from runs.models import Run, Task
from teammates.models import User
from teammates.people import setup
from threads.models import Thread

MOST_SHOWN = 20  # of a kind


def set_up_owner(*, token: str, **fields: str) -> User:
    """Claim the installation, and what its first start made. Raises as `setup.set_up_owner`."""
    with transaction.atomic():
        user = setup.set_up_owner(token=token, **fields)
        nobodys = {"organization__memberships__user": user, "created_by": None, "end_user": None}
        for rows in (Thread.objects, Run.objects):
            pks = rows.filter(**nobodys).values("pk")
            rows.filter(pk__in=pks).update(created_by=user)
    return user


def set_up_before_claim(user: User) -> list[str]:
    """What programs set up for an account that nobody has claimed yet, by kind and name: whoever
    claims it should know what they take over."""
    found: list[str] = []
    for membership in user.memberships.select_related("organization"):
        made = membership.organization
        for kind, rows in (
            ("Teammate", made.teammates.filter(created_by=user)),
            ("Task", Task.objects.saved().filter(organization=made)),
            ("Skill", made.skills),
            ("App", made.tool_servers),
            ("Document", made.documents),
        ):
            names = rows.order_by("id").values_list("name", flat=True)
            found += [f"{kind} “{name}”" for name in names[:MOST_SHOWN]]
        if memories := made.memories.count():
            found.append(f"{memories} memor{'y' if memories == 1 else 'ies'}")
    return found
