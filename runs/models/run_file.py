"""Files of a run."""

from typing import ClassVar

from django.db import models

from runs.models.run import Run
from threads.models import File


class RunFile(models.Model):
    """A file that a run wrote, or that came with its message."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="run_files")
    file = models.ForeignKey(File, on_delete=models.CASCADE, related_name="run_files")
    is_attachment = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint("run", "file", name="run_file_once")]

    def __str__(self) -> str:
        return f"{self.file} of {self.run}"
