"""Teammates found: by number, by persona, the default; and who may edit them."""

from dataclasses import replace

from django.db.models import Case, Q, QuerySet, When

from config.compiled import Hole
from teammates.access import Access
from teammates.errors import NotFound, Unsuitable
from teammates.models import EndUser, Organization, Teammate, TeammateStatus, TeammateVersion
from teammates.models.teammate import TeammateQuerySet
from teammates.scoped_query import scoped_query
from teammates.trust import audit

MOST_TO_ASK = 200
MOST_NAMES = 40


def may_edit(access: Access, teammate: Teammate) -> bool:
    """Whether the asker manages teammates, or made this one."""
    is_theirs = access.user is not None and teammate.created_by_id == access.user.pk
    return access.may("data.runs.write") and (is_theirs or access.may("data.personas.manage"))


def require_editor(access: Access, teammate: Teammate) -> None:
    """Raise `Forbidden` unless the asker manages teammates or made this one."""
    access.require("data.runs.write", teammate)
    if not may_edit(access, teammate):
        access.require("data.personas.manage")


@scoped_query
def _teammate_by_pk(access: Access, pk: Hole) -> TeammateQuerySet:
    return Teammate.objects.visible_to(access).with_version().filter(pk=pk)


def own_teammates(access: Access) -> list[Teammate]:
    """Those that are there now and are no end user's, as far as the asker sees them."""
    return list(Teammate.objects.visible_to(access).current().filter(end_user=None))


def get_teammate(access: Access, teammate_id: int) -> Teammate:
    """Raises `NotFound`."""
    return _found(_teammate_by_pk.first(access, pk=teammate_id))


def find_current(access: Access, teammate_id: int) -> Teammate | None:
    """One that is not archived, if the asker sees it."""
    found = _teammate_by_pk.first(access, pk=teammate_id)
    return None if found is None or found.is_archived else found


@scoped_query
def _to_ask(access: Access, of_end_user: Hole) -> TeammateQuerySet:
    here = Q(end_user=None) | Q(end_user=of_end_user)
    teammates = Teammate.objects.visible_to(access).current().filter(here)
    return teammates.with_version().order_by("id")[:MOST_TO_ASK]


def teammates_to_ask(access: Access, end_user: EndUser | None = None) -> list[Teammate]:
    """Whom a message can go to: the account's teammates, and those of the end user whose thread
    it is."""
    return _to_ask.all(access, of_end_user=end_user.pk if end_user else 0)


@scoped_query
def _names(access: Access) -> "QuerySet[Teammate, tuple[str, str]]":
    seen = Teammate.objects.visible_to(access).current().filter(end_user=None)
    return seen.order_by("display_order", "id").values_list("key", "name")[:MOST_NAMES]


def teammate_names(access: Access) -> list[tuple[str, str]]:
    """Key and name of the account's teammates, for a menu."""
    return _names.all(access)


def pick(teammates: TeammateQuerySet, teammate_id: int) -> Teammate:
    """One of `teammates`. Raises `NotFound`."""
    return _found(teammates.filter(pk=teammate_id).first())


def _found(found: Teammate | None) -> Teammate:
    if found is None:
        raise NotFound("There is no such teammate.", code="teammates.not_found")
    return found


def get_persona(access: Access, persona_id: str) -> tuple[Teammate, TeammateVersion]:
    """A v1 persona, `key` or `key@version`. Raises `NotFound`."""
    key, at, number = persona_id.partition("@")
    current = Teammate.objects.visible_to(replace(access, end_user=None)).current()
    teammate = current.with_version().filter(key=key).first()
    if teammate is None:
        raise NotFound(f"There is no persona {key!r}.", code="personas.not_found")
    if not at:
        return teammate, teammate.current_version
    found = (
        teammate.versions.filter(number=int(number)).first()
        if number.isdecimal() and len(number) < 9
        else None
    )
    if found is None:
        raise NotFound(
            f"Persona {key!r} has no version {number!r}.", code="personas.version_mismatch"
        )
    return teammate, found


@scoped_query
def _at_work(access: Access, preferred: Hole) -> TeammateQuerySet:
    """The account's enabled teammate that is preferred, else the first."""
    enabled = Teammate.objects.visible_to(access).with_version()
    enabled = enabled.filter(end_user=None, status=TeammateStatus.ENABLED)
    return enabled.order_by(Case(When(pk=preferred, then=0), default=1), "id")[:1]


def default_teammate(access: Access) -> Teammate:
    """Who answers when nobody is named. Raises `NotFound` if nobody works that the asker sees."""
    preferred = access.organization.default_teammate_id or 0
    found = _at_work.first(replace(access, end_user=None), preferred=preferred)
    if found is None:
        raise NotFound("There is no teammate yet; create one.", code="personas.not_found")
    return found


@audit.recorded("agent.default")
def make_default(access: Access, teammate: Teammate) -> None:
    """Who answers from now on when nobody is named. Raises `Unsuitable` if they are not at work."""
    access.require("org.settings.manage", teammate)
    if not teammate.is_enabled or teammate.end_user_id is not None:
        raise Unsuitable("Only an enabled teammate of the account answers for it.")
    Organization.objects.filter(pk=access.organization.pk).update(default_teammate=teammate)


def refuse_archived(teammate: Teammate) -> None:
    if teammate.is_archived:
        raise NotFound("This teammate is archived.", code="teammates.not_found")
