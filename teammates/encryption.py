"""The key of stored secrets: checked when Muster starts, changed with `manage.py reencrypt`."""

from collections.abc import Iterator

from django.apps import apps
from django.db import models, transaction

from teammates.errors import Unavailable
from teammates.fields import EncryptedField


def is_readable() -> bool:
    """Whether the key is the one that secrets are stored with: the newest of each kind tells."""
    try:
        for rows, name in _stored():
            list(rows.order_by("-pk").values_list(name, flat=True)[:1])
    except Unavailable:
        return False
    return True


def reencrypt() -> int:
    """Store every secret with the first of the keys; returns how many. Raises `Unavailable` where
    none of the keys reads one; then nothing is changed."""
    changed = 0
    with transaction.atomic():
        for rows, name in _stored():
            for pk, secret in rows.select_for_update(no_key=True).values_list("pk", name):
                changed += rows.filter(pk=pk).update(**{name: secret})
    return changed


def _stored() -> "Iterator[tuple[models.QuerySet[models.Model], str]]":
    """The rows that hold a secret, and the field that does."""
    for model in apps.get_models():
        for field in model._meta.fields:
            if isinstance(field, EncryptedField):
                # Compared in the database, where an empty one is stored as it is.
                yield model._default_manager.exclude(**{field.name: ""}), field.name
