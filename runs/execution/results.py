"""The result that a run owes in a form, where its model said it instead of calling for it."""

from runs.models import Run
from teammates.text import clean, read_json
from teammates.tools.result import submit_result
from teammates.types import JSON


def result_in(text: str, schema: JSON) -> JSON | None:
    """The JSON object in a closing text, if it fits `schema`."""
    try:
        data = read_json(text[text.find("{") : text.rfind("}") + 1])
    except ValueError:
        return None
    if not isinstance(data, dict) or submit_result(schema).check(data):
        return None
    return dict(clean(data))


def owes_result(run: Run) -> bool:
    """Whether it has not given the one that it was asked for."""
    if run.output_schema is None:
        return False
    return not Run.objects.filter(pk=run.pk, output_data__isnull=False).exists()
