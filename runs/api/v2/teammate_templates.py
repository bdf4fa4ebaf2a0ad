"""v2: ready-made teammates (contract v2 2.10)."""

from ninja import Router

from teammates.api.schemas import (
    ApiRequest,
    whole,
)
from teammates.roster.templates import CATALOG, TeammateTemplate
from teammates.types import JSON

router = Router(tags=["teammates"])


# --- templates ----------------------------------------------------------------------------------


@router.get("/agent-templates")
@router.get("/teammate-templates", include_in_schema=False)
def list_templates(request: ApiRequest) -> JSON:
    """Ready-made teammates, for `from_template`."""
    return whole([template_out(template) for template in CATALOG.values()])


def template_out(template: TeammateTemplate) -> JSON:
    return {
        "slug": template.slug,
        "name": template.name,
        "description": template.description,
        "logo_ref": template.slug,
        "required_integrations": list(template.required_apps),
        "role": template.role,
        "goals": template.goals,
        "default_tasks": [
            {
                "slug": task.slug,
                "name": task.name,
                "instructions": task.instructions,
                "expected_output": task.expected_output or None,
            }
            for task in template.tasks
        ],
        "bootstrap_tasks": [],
        "questions": [{"question": question} for question in template.questions],
    }
