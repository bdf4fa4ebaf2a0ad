"""Everything that an account holds, as one JSON document without secrets."""

import json
from collections.abc import Iterator
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import QuerySet

from runs.models import (
    Artifact,
    CreditEntry,
    Firing,
    Lesson,
    Mail,
    Run,
    Task,
    Trigger,
    UsageDay,
    UsageLabel,
    WebhookDelivery,
    WebhookEndpoint,
)
from teammates.access import Access
from teammates.fields import EncryptedField
from teammates.models import (
    APIKey,
    Document,
    EndUser,
    Membership,
    Memory,
    Model,
    PermissionPolicy,
    Skill,
    Teammate,
    TeammateVersion,
    ToolServer,
)
from teammates.trust import limits
from teammates.types import JSON
from threads.models import File, Message, Thread

PIECE = 500  # rows that are read at once
# Section → model and how its rows belong to the organization.
SECTIONS: dict[str, tuple[type[models.Model], str]] = {
    "end_users": (EndUser, "organization"),
    "agents": (Teammate, "organization"),
    "agent_versions": (TeammateVersion, "teammate__organization"),
    "tasks": (Task, "organization"),
    "triggers": (Trigger, "task__organization"),
    "lessons": (Lesson, "task__organization"),
    "threads": (Thread, "organization"),
    "messages": (Message, "thread__organization"),
    "files": (File, "thread__organization"),
    "runs": (Run, "organization"),
    "artifacts": (Artifact, "organization"),
    "memories": (Memory, "organization"),
    "documents": (Document, "organization"),
    "skills": (Skill, "organization"),
    "permissions": (PermissionPolicy, "organization"),
    "mcp_servers": (ToolServer, "organization"),
    "models": (Model, "organization"),
    "firings": (Firing, "organization"),
    "mails": (Mail, "teammate__organization"),
    "webhooks": (WebhookEndpoint, "organization"),
    "webhook_deliveries": (WebhookDelivery, "endpoint__organization"),
    "keys": (APIKey, "organization"),
    "usage": (UsageDay, "organization"),
    "usage_labels": (UsageLabel, "organization"),
    "credits": (CreditEntry, "organization"),
}
# Never given away, whatever row has them.
SECRET = frozenset(
    {
        "mail_token_hash",
        "mail_token_prefix",
        "hash",
        "hook_hash",
        "hook_prefix",
        "share_nonce",
        "environment",
        "auth_config",
        "stored_as",
        "setup_token_hash",
        "command",
        "worker",
        "fence",
        "lease_until",
    }
)


def sections(access: Access) -> Iterator[tuple[str, Iterator[JSON]]]:
    """Each section and its rows, read in pieces. For owners."""
    access.require("org.account.manage")
    for name, (model, path) in SECTIONS.items():
        rows = model._default_manager.filter(**{path: access.organization}).order_by("pk")
        yield name, (_row(row) for row in _in_pieces(rows))


def _in_pieces(rows: QuerySet[Any]) -> Iterator[Any]:
    """Page by page, so that no cursor is open between two of them."""
    after = 0
    while page := list(rows.filter(pk__gt=after)[:PIECE]):
        yield from page
        after = page[-1].pk


def as_json(access: Access) -> Iterator[str]:
    """The whole document in pieces: head and sections as one JSON object."""
    document = json.dumps(head(access), cls=DjangoJSONEncoder)
    yield document[:-1]
    for name, rows in sections(access):
        yield f', "{name}": ['
        for number, row in enumerate(rows):
            yield ("," if number else "") + json.dumps(row, cls=DjangoJSONEncoder)
        yield "]"
    yield "}"


def _row(row: models.Model) -> JSON:
    return {name: getattr(row, name) for name in exported_columns(type(row))}


def exported_columns(model: type[models.Model]) -> list[str]:
    """Names of the columns without secrets; `tests/runs/retention` has the list that was agreed."""
    return [
        field.attname
        for field in model._meta.concrete_fields
        if field.name not in SECRET and not isinstance(field, EncryptedField)
    ]


def head(access: Access) -> JSON:
    """What the document says of the account itself."""
    access.require("org.account.manage")
    limits.take((limits.EXPORTS, limits.whoever(access)))
    organization = access.organization
    people = Membership.objects.filter(organization=organization).select_related("user")
    return {
        "organization": {
            "id": organization.pk,
            "name": organization.name,
            "created_at": organization.created_at,
        },
        "members": [
            {"email": one.user.email, "name": one.user.name, "role": one.role}
            for one in people.order_by("id")
        ],
    }
