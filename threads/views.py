"""Files of threads, for people."""

from urllib.parse import quote
from uuid import UUID

from django.http import HttpResponse

from teammates.errors import Forbidden, NotFound
from teammates.pages import PageRequest
from threads import conversations, files
from threads.models import File


def file_download(request: PageRequest, uid: UUID) -> HttpResponse:
    """The bytes, always as a download: nothing that was made here runs in our origin."""
    file = File.objects.filter(uid=uid).first()
    if file is None:
        raise NotFound("There is no such file.", code="files.not_found")
    try:
        conversations.get_thread(request.access, pk=file.thread_id)
    except (Forbidden, NotFound):
        raise NotFound("There is no such file.", code="files.not_found") from None
    return HttpResponse(
        files.read_file(file),
        content_type=file.content_type,
        headers={
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name)}",
            "X-Content-Type-Options": "nosniff",
        },
    )
