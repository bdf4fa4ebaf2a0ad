"""Files on this machine's disk, each whole or not there at all."""

import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage
from django.utils.deconstruct import deconstructible


@deconstructible
class WholeFileStorage(FileSystemStorage):
    """Writes under a passing name, to the disk, and then renames: a crash leaves no half file under
    the name of a whole one. Writing a name again replaces it."""

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name

    def _save(self, name: str, content: "File[Any]") -> str:
        passing_name = f"incoming/{uuid4().hex}"
        super()._save(passing_name, content)  # type: ignore[misc]  # documented, not in the stubs
        passing = Path(self.path(passing_name))
        with passing.open("rb+") as written:
            os.fsync(written.fileno())
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        passing.replace(target)
        return name
