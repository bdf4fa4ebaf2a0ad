from django.db import migrations, models
from django.db.models.deletion import SET_NULL


class Migration(migrations.Migration):
    dependencies = [("runs", "0014_threads_heard_outside"), ("teammates", "0014_erased")]

    operations = [
        migrations.AddField(
            "task",
            "api_key",
            models.ForeignKey("teammates.apikey", SET_NULL, null=True, related_name="+"),
        ),
    ]
