"""What strangers had a say in before threads kept it: their runs' threads, and copies of these."""

from typing import Any

from django.db import migrations
from django.db.models import Q


def mark_threads(apps: Any, schema_editor: Any) -> None:
    Run, Thread = apps.get_model("runs", "Run"), apps.get_model("threads", "Thread")
    outside = Run.objects.filter(~Q(origin="") | Q(heard_outside=True))
    unmarked = Thread.objects.filter(heard_outside=False)
    unmarked.filter(pk__in=outside.values("thread")).update(heard_outside=True)
    while unmarked.filter(parent__heard_outside=True).update(heard_outside=True):
        pass  # a copy of a copy
    Run.objects.filter(thread__heard_outside=True).update(heard_outside=True)


class Migration(migrations.Migration):
    dependencies = [("runs", "0013_heard_outside"), ("threads", "0003_heard_outside")]

    operations = [migrations.RunPython(mark_threads, migrations.RunPython.noop)]
