"""Anthropic's models that every organization was given are retired one by one: where no key was set
yet, the aliases mean those of today."""

from decimal import Decimal

from django.db import migrations

TODAY = {
    # name then: (alias, name now, uncached input, cache read, cache write, output)
    "claude-sonnet-4-5": ("sonnet", "claude-sonnet-5-5", "2", "0.1", "2.5", "10"),
    "claude-opus-4-5": ("opus", "claude-opus-5-5", "4", "0.2", "5", "20"),
    "claude-opus-4-1": ("fable", "claude-fable-5-2", "8", "0.2", "10", "40"),
}


def rename(apps, schema_editor):
    Model, ModelPrice = (apps.get_model("teammates", name) for name in ("Model", "ModelPrice"))
    given = Model.objects.filter(name__in=TODAY, provider__kind="anthropic")
    for model in given.select_related("provider"):
        alias, name, *prices = TODAY[model.name]
        if model.provider.api_key or model.alias != alias:
            continue
        model.name, model.context_window = name, 1_000_000
        model.save(update_fields=["name", "context_window"])
        lanes = ("uncached_input", "cache_read", "cache_write", "output")
        ModelPrice.objects.create(
            model=model, **dict(zip(lanes, map(Decimal, prices), strict=True))
        )


class Migration(migrations.Migration):
    dependencies = [("teammates", "0023_passages")]
    operations = [migrations.RunPython(rename, migrations.RunPython.noop)]
