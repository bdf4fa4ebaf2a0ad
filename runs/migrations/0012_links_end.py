"""Links from before links ended end too, and with the membership of whoever made the run."""

from datetime import timedelta
from typing import Any

from django.db import migrations
from django.db.models import F, OuterRef, Subquery
from django.utils import timezone

LINK_DAYS = 90


def end_links(apps: Any, schema_editor: Any) -> None:
    Run, Artifact = apps.get_model("runs", "Run"), apps.get_model("runs", "Artifact")
    until = timezone.now() + timedelta(days=LINK_DAYS)
    endless = {"shared_until": None}
    Run.objects.filter(**endless).exclude(share_nonce="").update(
        shared_by=F("created_by"), shared_until=until
    )
    makers = Run.objects.filter(pk=OuterRef("run")).values("created_by")
    Artifact.objects.filter(**endless).exclude(share_nonce="").update(
        shared_by=Subquery(makers), shared_until=until
    )


class Migration(migrations.Migration):
    dependencies = [("runs", "0011_links")]

    operations = [migrations.RunPython(end_links, migrations.RunPython.noop)]
