"""Lower apps know nothing of what upper ones hang on their rows; import-linter holds the rest."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings

NO_ROWS = {"migrations", "providers", "tools"}
ORDER = ["teammates", "threads", "runs"]


def names_of_relations(app: str) -> set[str]:
    """By which models of the app reach rows of the apps above it."""
    above = ORDER[ORDER.index(app) + 1 :]
    return {
        relation.get_accessor_name() or ""
        for model in apps.get_app_config(app).get_models()
        for relation in model._meta.related_objects
        if relation.related_model._meta.app_label in above
    } - {""}


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    """Attributes, and the first word of each lookup."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.value.lineno, node.arg.partition("__")[0]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if "__" not in node.value:
                continue
            yield node.lineno, node.value.partition("__")[0]


@pytest.mark.parametrize("app", ORDER[:-1])
def test_no_app_follows_a_relation_upwards(app: str) -> None:
    names = names_of_relations(app)
    folder = Path(settings.BASE_DIR) / app
    found = [
        f"{path.relative_to(settings.BASE_DIR)}:{line} {word}"
        for path in folder.rglob("*.py")
        if not NO_ROWS & set(path.parts)
        for line, word in words_of(path)
        if word in names
    ]
    assert names
    assert found == []
