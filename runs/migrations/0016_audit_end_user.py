"""Entries from before say whose affairs they were in, as far as the rows still tell."""

from typing import Any

from django.db import migrations

WHOSE = {
    "agent": ("teammates", "Teammate"), "skill": ("teammates", "Skill"),
    "document": ("teammates", "Document"), "server": ("teammates", "ToolServer"),
    "task": ("runs", "Task"), "webhook": ("runs", "WebhookEndpoint"),
}


def name_end_users(apps: Any, schema_editor: Any) -> None:
    entries = apps.get_model("teammates", "AuditEntry").objects.filter(end_user=None, method="")
    for resource_type, model in WHOSE.items():
        rows = apps.get_model(*model).objects.exclude(end_user=None)
        for row in rows.only("pk", "organization_id", "end_user_id").iterator():
            entries.filter(
                organization_id=row.organization_id, resource_type=resource_type,
                resource_id=str(row.pk),
            ).update(end_user_id=row.end_user_id)


class Migration(migrations.Migration):
    dependencies = [("runs", "0015_task_api_key"), ("teammates", "0016_audit_end_user")]

    operations = [migrations.RunPython(name_end_users, migrations.RunPython.noop)]
