from django.db import migrations, models
from django.db.models.deletion import SET_NULL


class Migration(migrations.Migration):
    dependencies = [("teammates", "0015_document_created_by")]

    operations = [
        migrations.AddField(
            "auditentry",
            "end_user",
            models.ForeignKey("teammates.enduser", SET_NULL, null=True, related_name="+"),
        ),
    ]
