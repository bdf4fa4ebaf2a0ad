"""Finding anything by its words: threads by what was said in them, runs by what was asked, and
teammates, tasks and files by their names. One query for each kind."""

from dataclasses import dataclass, field

from django.db.models import Q

from runs.models import Run, Task
from runs.models.run_query import RunQuerySet
from teammates.access import Access
from teammates.models import Teammate
from teammates.searching import (
    headline_of,
    marked,
    name_query_of,
    name_vector_of,
    query_of,
    vector_of,
)
from threads.models import File, Message, MessageRole, Thread, ThreadQuerySet

LOOKED_AT = 5  # messages looked at for each thread that is shown


@dataclass
class SearchResults:
    """What has all of the words, newest first."""

    threads: list[tuple[Thread, str]] = field(default_factory=list)  # with the words around
    runs: list[Run] = field(default_factory=list)
    teammates: list[Teammate] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    files: list[File] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any((self.threads, self.runs, self.teammates, self.tasks, self.files))


def search(access: Access, text: str, *, limit: int = 8) -> SearchResults:
    """Up to `limit` of each kind that the asker sees; nothing for a text without a word."""
    query = query_of(text)
    if query is None:
        return SearchResults()
    named = Q(name__icontains=text.strip())
    teammates = Teammate.objects.visible_to(access).current().with_version()
    tasks = Task.objects.visible_to(access).saved().current()
    threads = Thread.objects.visible_to(access).listed()
    files = File.objects.annotate(words=name_vector_of("name")).filter(
        words=name_query_of(text), thread__in=Thread.objects.visible_to(access)
    )
    return SearchResults(
        threads=threads_saying(threads, text, limit=limit),
        runs=runs_asked(Run.objects.visible_to(access), text).newest_first().page(limit),
        teammates=list(teammates.filter(named | Q(version__role__icontains=text.strip()))[:limit]),
        tasks=list(tasks.filter(named).select_related("teammate").order_by("-id")[:limit]),
        files=list(files.select_related("thread").order_by("-id")[:limit]),
    )


def threads_saying(threads: ThreadQuerySet, text: str, *, limit: int) -> list[tuple[Thread, str]]:
    """Of `threads`, those whose title or messages have all of the words, each once, with the words
    around the newest place."""
    query = query_of(text)
    if query is None:
        return []
    titled = threads.annotate(words=vector_of("title")).filter(words=query)
    found: dict[int, tuple[Thread, str]] = {
        thread.pk: (thread, "") for thread in titled.for_list().order_by("-updated_at")[:limit]
    }
    said = Message.objects.annotate(words=vector_of("content")).filter(
        words=query, thread__in=threads
    )
    newest = said.annotate(around=headline_of("content", query)).order_by("-id")
    for message in newest.select_related("thread__teammate")[: limit * LOOKED_AT].defer("content"):
        around = marked(message.around)
        thread, known = found.setdefault(message.thread_id, (message.thread, around))
        found[thread.pk] = (thread, known or around)
    return list(found.values())[:limit]


def runs_asked(runs: RunQuerySet, text: str) -> RunQuerySet:
    """Of `runs`, those that were asked for in all of the words."""
    query = query_of(text)
    if query is None:
        return runs
    asked = Message.objects.annotate(words=vector_of("content")).filter(
        words=query, role=MessageRole.USER
    )
    return runs.filter(prompt__in=asked)
