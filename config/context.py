"""What the frame of every page shows."""

from typing import Any

from django.http import HttpRequest

from runs.models import Run
from teammates.models import User


def shell(request: HttpRequest) -> dict[str, Any]:
    theme = request.COOKIES.get("theme", "auto")
    context: dict[str, Any] = {"theme": theme if theme in ("light", "dark") else "auto"}
    access = getattr(request, "access", None)
    if access is None or not isinstance(request.user, User):
        return context
    needs_you = Run.objects.visible_to(access).needing_a_person()[:100].count()
    return context | {"access": access, "needs_you": needs_you}
