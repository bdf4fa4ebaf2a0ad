"""Teammates that were made before they could be personal were everybody's, and stay so."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("teammates", "0003_accounts_and_tasks")]
    operations = [
        migrations.RunSQL(
            "UPDATE teammates_teammate SET visibility = 'organization'", migrations.RunSQL.noop
        )
    ]
