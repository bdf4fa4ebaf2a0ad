"""The first steps of a newcomer."""

from dataclasses import dataclass

from django.db.models import Exists, OuterRef, Q, QuerySet

from config.compiled import Hole, compiled
from runs.models import Channel, Gate, GateKind, Run
from runs.queries.activity import MOST_LOOKED_AT
from teammates.access import Access
from teammates.models import APIKey, Invitation, Membership, Provider
from teammates.providers.kinds import KINDS


@dataclass(frozen=True)
class FirstStep:
    key: str
    words: str
    is_done: bool


def first_steps(access: Access) -> list[FirstStep]:
    """What a newcomer has tried, in one query."""
    person = access.require_person()
    (member,) = _tried.all(organization_id=access.organization.pk, person_id=person.pk)
    done = vars(member)
    steps = [
        ("ran", "Say hello to Demo"),
        ("answered", "Answer its question"),
        ("approved", "Approve what it wants to do"),
        ("looked", "Look into a run"),
        ("connected", "Add a model of your own"),
        ("invited", "Invite somebody"),
        ("called", "Make the first call from a program"),
    ]
    hidden = set() if access.may("org.members.invite") else {"connected", "invited"}
    return [FirstStep(key, words, bool(done[key])) for key, words in steps if key not in hidden]


@compiled
def _tried(organization_id: Hole, person_id: Hole) -> "QuerySet[Membership]":
    """A person's membership, with a column for each step."""
    mine_newest = Run.objects.filter(organization=organization_id, created_by=person_id)
    runs = Run.objects.filter(pk__in=mine_newest.newest_first().values("pk")[:MOST_LOOKED_AT])
    decided = Gate.objects.filter(run__organization=organization_id, decided_by=person_id)
    members = Membership.objects.filter(organization=organization_id)
    keys = APIKey.objects.filter(organization=organization_id, created_by=person_id)
    providers = Provider.objects.filter(organization=organization_id)
    without_key = [name for name, kind in KINDS.items() if not kind.needs_key and name != "demo"]
    is_connected = ~Q(api_key="") | Q(kind__in=without_key)
    return members.filter(user=person_id).annotate(
        ran=Exists(runs.filter(channel=Channel.APP)),
        answered=Exists(decided.filter(kind__in=[GateKind.QUESTION, GateKind.PLAN])),
        approved=Exists(decided.filter(kind=GateKind.APPROVAL)),
        looked=Exists(runs.exclude(last_viewed_at=None)),
        connected=Exists(providers.filter(is_connected)),
        invited=Exists(Invitation.objects.filter(organization=OuterRef("organization")))
        | Exists(members.exclude(user=person_id)),
        called=Exists(keys.exclude(last_used_at=None)),
    )
