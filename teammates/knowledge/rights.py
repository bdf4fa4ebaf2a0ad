"""Who may change what teammates know."""

from teammates.access import Access
from teammates.models import Document, Memory
from teammates.roster import lookup


def require_knowledge_editor(access: Access, row: Memory | Document) -> None:
    """What belongs to a teammate is changed by whoever may change that, by whom it was kept of, and
    by its own runs; what is everybody's, by its maker and who manages teammates. Raises
    `Forbidden`."""
    if access.user is not None and row.created_by_id == access.user.pk:
        return
    if row.teammate is not None:
        if not access.of_run:
            lookup.require_editor(access, row.teammate)
    elif row.end_user_id is None:
        access.require("data.personas.manage")
