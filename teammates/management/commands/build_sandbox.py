"""`manage.py build_sandbox`: the image in which MUSTER_SANDBOX=docker (or podman) runs Python."""

import subprocess
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from teammates import sandbox

DOCKERFILE = Path(sandbox.__file__).with_name("Dockerfile")


class Command(BaseCommand):
    help = "Build the image in which teammates' Python is run by docker or podman."

    def handle(self, *args: Any, **options: Any) -> None:
        program, image = settings.SANDBOX, settings.SANDBOX_IMAGE
        if program not in sandbox.CONTAINERS:
            raise CommandError("Set MUSTER_SANDBOX to docker or podman first.")
        try:
            subprocess.run(
                [program, "build", "--tag", image, "-"], input=DOCKERFILE.read_bytes(), check=True
            )
        except FileNotFoundError:
            raise CommandError(f"{program} is not installed on this machine.") from None
        except subprocess.CalledProcessError as error:
            raise CommandError(
                f"{program} could not build it (status {error.returncode})."
            ) from None
        self.stdout.write(f"Teammates run Python in the image {image} from now on.")
