"""Skills: instructions that a teammate loads when it needs them."""

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.text import slugify

from teammates.access import Access
from teammates.errors import Conflict, Invalid, NotFound
from teammates.models import Skill, SkillStatus, Teammate
from teammates.trust import audit
from teammates.types import JSON

LONGEST_SKILL = 50_000  # characters
MOST_SKILLS = 100


@audit.recorded("skill.create", makes=Skill)
def add_skill(
    access: Access,
    *,
    name: str,
    description: str,
    body: str,
    teammate: Teammate | None = None,
    written_by: Teammate | None = None,
) -> Skill:
    """Save named instructions; the slug comes from the name. Raises `Invalid`, `Conflict`."""
    access.require("data.personas.manage")
    fields = _checked_skill({"name": name, "description": description, "body": body})
    slug = slugify(fields["name"])[:100]
    if not slug:
        raise Invalid("name must contain a letter or a digit.")
    if Skill.objects.visible_to(access).count() >= MOST_SKILLS:
        raise Conflict(f"This scope has {MOST_SKILLS} skills already.", code="skills.capacity")
    try:
        with transaction.atomic():
            return Skill.objects.create(
                organization=access.organization,
                end_user=access.end_user,
                slug=slug,
                teammate=teammate,
                created_by=access.user,
                written_by=written_by,
                **fields,
            )
    except IntegrityError:
        raise Conflict(
            f"There is a skill {slug!r} already; choose another name.", code="skills.duplicate"
        ) from None


@audit.recorded("skill.update")
def update_skill(access: Access, skill: Skill, **changes: str) -> Skill:
    """Change name, description, body or status; the slug stays. Raises `Invalid`."""
    access.require("data.personas.manage", skill)
    if "status" in changes and changes["status"] not in SkillStatus.values:
        raise Invalid(f"status must be one of {', '.join(SkillStatus.values)}.")
    status = {"status": changes.pop("status")} if "status" in changes else {}
    for name, value in (_checked_skill(changes) | status).items():
        setattr(skill, name, value)
    skill.save()
    return skill


@audit.recorded("skill.delete")
def delete_skill(access: Access, skill: Skill) -> None:
    access.require("data.personas.manage", skill)
    skill.delete()


def get_skill(access: Access, skill_id: int) -> Skill:
    """Raises `NotFound`."""
    found: Skill | None = (
        Skill.objects.visible_to(access).select_related("end_user").filter(pk=skill_id).first()
    )
    if found is None:
        raise NotFound("There is no such skill.", code="skills.not_found")
    return found


def list_skills(access: Access) -> "QuerySet[Skill]":
    """The scope's skills, by name; what they say is for those who may see it."""
    found: QuerySet[Skill] = Skill.objects.visible_to(access)
    return found.select_related("teammate", "end_user").order_by("name", "id")


def skills_for(access: Access, teammate: Teammate) -> "QuerySet[Skill]":
    """The skills that a run of the teammate may load: those of exactly its scope."""
    found: QuerySet[Skill] = Skill.objects.for_teammate(access, teammate)
    return found.filter(status=SkillStatus.ACTIVE).order_by("slug")


def check_skill(access: Access, teammate: Teammate, slug: str) -> None:
    """Raises `Invalid` naming a skill that a run could not load."""
    if not skills_for(access, teammate).filter(slug=slug).exists():
        raise Invalid(f"skill: there is no skill {slug!r} that this teammate may load.")


def _checked_skill(fields: dict[str, str]) -> JSON:
    longest = {"name": 200, "description": 1000, "body": LONGEST_SKILL}
    checked = {}
    for name, text in fields.items():
        text = text.strip()
        if not 1 <= len(text) <= longest[name]:
            raise Invalid(f"{name} must have 1 to {longest[name]} characters.")
        checked[name] = text
    return checked
