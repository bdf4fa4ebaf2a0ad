"""A file as an answer to a request."""

from urllib.parse import quote

from django.http import HttpResponse

from threads import files
from threads.models import File


def file_response(file: File) -> HttpResponse:
    """The bytes, always as a download: nothing that was made here runs in our origin."""
    return HttpResponse(
        files.read_file(file),
        content_type=file.content_type,
        headers={
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name)}",
            "X-Content-Type-Options": "nosniff",
        },
    )
