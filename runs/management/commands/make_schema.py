"""`manage.py make_schema`: write the schema of a new database as one file (`config/schema.py`)."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand

from config import data_folder, schema
from config.postgres import Cluster

NAME = "muster_schema"


class Command(BaseCommand):
    help = "Migrate a new database and write its schema; run it after adding a migration."
    requires_system_checks = ()

    def handle(self, *args: object, **options: object) -> None:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)  # PostgreSQL may have to be somebody else
            os.environ["MUSTER_DATA"] = str(Path(folder) / "muster")
            cluster = Cluster(data_folder.prepare())
            with cluster.running():
                cluster.ensure_database(NAME)
                url = f"postgresql://postgres@/{NAME}?host={cluster.socket_folder}"
                subprocess.run(
                    [sys.executable, "-W", "ignore", "manage.py", "migrate", "-v", "0"],
                    cwd=settings.BASE_DIR,
                    env=os.environ | {"DATABASE_URL": url},
                    check=True,
                )
                schema.FILE.write_text(schema.cleaned(cluster.dump(NAME)))
        self.stdout.write(f"Written to {schema.FILE.relative_to(settings.BASE_DIR)}")
