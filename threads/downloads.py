"""A file as an answer to a request."""

from urllib.parse import quote

from django.http import HttpResponse

from threads import files
from threads.models import File

IMAGES = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml", "image/avif"}
)


def file_response(file: File) -> HttpResponse:
    """The bytes, always as a download: nothing that was made here runs in our origin. Only images
    say what they are; whatever else says it could be loaded by a page as script or style."""
    is_image = file.content_type in IMAGES
    return HttpResponse(
        files.read_file(file),
        content_type=file.content_type if is_image else "application/octet-stream",
        headers={
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name)}",
            "Content-Security-Policy": "sandbox; default-src 'none'",
            "X-Content-Type-Options": "nosniff",
        },
    )
