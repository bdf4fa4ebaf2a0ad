"""What the tests of triggers share."""

import json
from typing import Any

from django.test import Client

from runs.models import Task
from runs.triggers import definitions
from teammates.access import Access
from teammates.models import Teammate
from teammates.roster import channels, webhook_tokens


def hook_of(alice: Access, row: Task | Teammate) -> str:
    if isinstance(row, Teammate):
        return webhook_tokens.path("mates", row.pk, channels.make_webhook(alice, row))
    return webhook_tokens.path("tasks", row.pk, definitions.make_webhook(alice, row)[1])


def call(path: str, body: Any = None, **headers: Any) -> Any:
    kind = headers.pop("content_type", "application/json")
    data = body if isinstance(body, bytes | str) else b"" if body is None else json.dumps(body)
    return Client().post(path, data, content_type=kind, headers=headers)
