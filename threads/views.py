"""Files of threads, for people."""

from uuid import UUID

from django.http import HttpResponse

from teammates.errors import Forbidden, NotFound
from teammates.web.pages import PageRequest
from threads import conversations
from threads.downloads import file_response
from threads.models import File


def file_download(request: PageRequest, uid: UUID) -> HttpResponse:
    file = File.objects.filter(uid=uid).first()
    if file is None:
        raise NotFound("There is no such file.", code="files.not_found")
    try:
        conversations.get_thread(request.access, pk=file.thread_id)
    except (Forbidden, NotFound):
        raise NotFound("There is no such file.", code="files.not_found") from None
    return file_response(file)
