"""The files that pages link to."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ninja
from django.conf import settings
from servestatic import ServeStaticASGI
from servestatic.compress import Compressor

FRESH_SECONDS = 60  # then a browser asks whether a file is still the same


def with_static_files(application: Any) -> Any:
    """`application`, and before it the folder `static/`, compressed.

    What is served is a copy made at the start: a new version that is unpacked over a running
    server never mixes with its pages. While debugging it is the folder itself.
    """
    folder = settings.BASE_DIR / "static"
    root = folder if settings.DEBUG else _compressed_copy(folder)
    served = ServeStaticASGI(
        application,
        root=str(root),
        prefix=settings.STATIC_URL,
        autorefresh=settings.DEBUG,
        max_age=0 if settings.DEBUG else FRESH_SECONDS,
    )
    # The pages of the API docs bring their own files.
    served.add_files(str(Path(ninja.__file__).parent / "static"), prefix=settings.STATIC_URL)
    return served


def _compressed_copy(folder: Path) -> Path:
    copies.append(TemporaryDirectory(prefix="muster-static-"))
    copy = Path(copies[-1].name) / "static"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("docs"))
    compressor = Compressor(use_brotli=False, use_zstd=False, quiet=True)
    for path in copy.rglob("*"):
        if path.is_file() and compressor.should_compress(path.name):
            compressor.compress(str(path))
    return copy


copies: list["TemporaryDirectory[str]"] = []  # each is removed when the process ends
