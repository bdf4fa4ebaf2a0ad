"""What the frame of every page shows."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

from config.compiled import Hole, compiled
from runs.models import Run
from teammates.access import Access
from teammates.models import Membership, User
from teammates.scoped_query import scoped_query
from teammates.types import Context

if TYPE_CHECKING:
    from django.db.models import QuerySet

THEMES = (("auto", "Auto"), ("light", "Light"), ("dark", "Dark"))
MOST_COUNTED = 100


@dataclass(frozen=True)
class Place:
    """An entry of the navigation; `permission` says who has it."""

    label: str
    icon: str
    route: str
    key: str = ""  # behind g
    on_phone: bool = False
    permission: str = ""
    starts_group: bool = False
    is_exact: bool = False  # pages below it are entries of their own


PLACES = (
    Place("Home", "house", "runs:home", "h", on_phone=True, is_exact=True),
    Place("Needs you", "hand", "runs:needs_you", "n", on_phone=True),
    Place("Threads", "message-square", "runs:thread_list", "t", on_phone=True),
    Place("Teammates", "users", "runs:teammate_list", "m"),
    Place("Runs", "list-tree", "runs:run_list", "r", on_phone=True),
    Place("Tasks", "calendar", "runs:task_list", "a"),
    Place("Files", "folder", "runs:file_list", "f"),
    Place("Usage & cost", "chart-column", "runs:usage", "u", starts_group=True),
    Place("Webhooks", "webhook", "runs:webhook_list", "w", permission="data.webhooks.manage"),
    Place("Settings", "settings", "teammates:settings", "s"),
)


SETTINGS = (
    Place("General", "building-2", "teammates:settings", is_exact=True),
    Place("Models & prices", "cpu", "teammates:model_settings"),
    Place("Members", "users", "teammates:member_list", permission="org.members.list"),
    Place("End users", "users-round", "runs:end_user_list", permission="data.end_users.manage"),
    Place("API keys", "key-round", "teammates:key_list"),
    Place("Tools", "wrench", "runs:tool_list"),
    Place("Apps", "plug", "teammates:server_list"),
    Place("Budgets", "wallet", "runs:budget_list", permission="data.usage.read"),
    Place("Permissions", "shield", "runs:permission_list"),
    Place("Memory", "brain", "teammates:memory_list"),
    Place("Documents", "library", "teammates:document_list"),
    Place("Skills", "book-open", "teammates:skill_list"),
    Place("Reports", "flag", "runs:report_list", permission="data.personas.manage"),
    Place("Public links", "share-2", "runs:link_list"),
    Place("Audit log", "scroll-text", "teammates:audit_log", permission="org.audit_read"),
    Place("Notifications", "mail", "runs:notice_settings"),
    Place("Mail", "send", "runs:mail_settings", permission="org.settings.manage"),
    Place("Appearance", "palette", "teammates:appearance"),
    Place("Your account", "user-round", "teammates:account"),
)
KEYBOARD = (
    (
        "Everywhere",
        (
            ("Search", "/"),
            ("Go anywhere", "Ctrl K"),
            ("New thread", "c"),
            ("Fold the side away", "Ctrl B"),
            ("This help", "?"),
            *((place.label, f"g {place.key}") for place in PLACES),
        ),
    ),
    (
        "Lists",
        (
            ("Move", "j k"),
            ("Open", "Enter"),
            ("Look without opening", "Space"),
            ("Choose", "x"),
            ("Filter", "f"),
            ("Newest, older", "[ ]"),
        ),
    ),
    (
        "A run",
        (
            ("Timeline", "t"),
            ("Messages", "m"),
            ("Try again", "r"),
            ("Stop", "Shift C"),
            ("Unfold, fold all", "e w"),
        ),
    ),
    (
        "Needs you",
        (
            ("Approve", "a"),
            ("Deny", "d"),
            ("Edit", "s"),
            ("Snooze", "h"),
            ("Choose", "x"),
        ),
    ),
    (
        "Composer",
        (
            ("Send", "Enter"),
            ("New line", "Shift Enter"),
            ("Send, wherever", "Ctrl Enter"),
            ("Stop the run", "Esc Esc"),
        ),
    ),
)


def shell(request: HttpRequest) -> Context:
    theme = request.COOKIES.get("theme", "auto")
    context: Context = {
        "theme": theme if theme in dict(THEMES) else "auto",
        "themes": THEMES,
        "side": "narrow" if request.COOKIES.get("side") == "narrow" else "wide",
    }
    access = getattr(request, "access", None)
    person = request.user
    if access is None or not isinstance(person, User):
        return context
    # A part of a page shows nothing of its frame: lazy, so that only frames ask for it.
    return context | {
        "access": access,
        "organizations": SimpleLazyObject(
            lambda: [m.organization for m in _memberships.all(person_id=person.pk)]
        ),
        "needs_you": SimpleLazyObject(lambda: len(_waiting.all(access))),
        "places": SimpleLazyObject(lambda: _places(request, access, PLACES)),
        "every_place": SimpleLazyObject(lambda: _places(request, access, (*PLACES, *SETTINGS))),
        "settings_places": _places(request, access, SETTINGS)
        if (request.path.startswith("/settings/"))
        else [],
        "keyboard": KEYBOARD,
        "has_keys": request.COOKIES.get("keys") != "off",
    }


@scoped_query
def _waiting(access: Access) -> "QuerySet[Run, int]":
    runs = Run.objects.visible_to(access).needing_a_person()
    return runs.values_list("pk", flat=True)[:MOST_COUNTED]


@compiled
def _memberships(person_id: Hole) -> "QuerySet[Membership]":
    memberships = Membership.objects.filter(user=person_id, organization__closed_at=None)
    return memberships.select_related("organization")


def _places(request: HttpRequest, access: Access, places: tuple[Place, ...]) -> list[Context]:
    shown = []
    for place in places:
        if place.permission and not access.may(place.permission):
            continue
        url = reverse(place.route)
        is_here = request.path == url if place.is_exact else request.path.startswith(url)
        shown.append({"place": place, "url": url, "is_here": is_here})
    return shown
