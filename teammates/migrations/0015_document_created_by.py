from django.conf import settings
from django.db import migrations, models
from django.db.models.deletion import SET_NULL


class Migration(migrations.Migration):
    dependencies = [("teammates", "0014_erased")]

    operations = [
        migrations.AddField(
            "document",
            "created_by",
            models.ForeignKey(settings.AUTH_USER_MODEL, SET_NULL, null=True, related_name="+"),
        ),
    ]
