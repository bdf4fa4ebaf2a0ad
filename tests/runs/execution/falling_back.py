"""What the tests of execution share."""

from typing import Any

from runs.creation import options
from runs.models import Run
from teammates.access import Access
from teammates.llm import catalog
from teammates.models import Model
from tests.factories import make_run
from tests.fake_models import FakeModels


def add_model(access: Access, models: FakeModels, name: str, **limits: Any) -> Model:
    access.organization.is_home = True
    access.organization.save()
    provider = catalog.create_provider(
        access, name=f"Fake {name}", kind="openai_compatible", base_url=f"{models.url}/v1"
    )
    model = catalog.add_model(access, provider, alias=name, name=name)
    Model.objects.filter(pk=model.pk).update(**limits)
    return Model.objects.select_related("provider__organization").get(pk=model.pk)


def fall_back(access: Access, model: Model, to: Model | None) -> None:
    catalog.update_model(
        access,
        model,
        fallback=to,
        max_effort=model.max_effort,
        context_window=model.context_window,
    )


def on(access: Access, model: Model, **fields: Any) -> Run:
    return make_run(access, options=options.Options(model=model.alias, **fields))
