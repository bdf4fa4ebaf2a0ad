"""Finding anything by its words: threads by what was said in them, runs by what was asked, and
teammates, tasks and files by their names. One query for each kind."""

from dataclasses import dataclass, field

from django.db.models import F, QuerySet, Value
from django.db.models.functions import StrIndex, Upper

from config.compiled import Hole, compiled
from runs.models import Run, Task
from runs.models.run_query import RunQuerySet
from runs.models.task import TaskQuerySet
from runs.queries.lookup import page
from teammates.access import Access
from teammates.models import Teammate
from teammates.models.teammate import TeammateQuerySet
from teammates.scoped_query import scoped_query
from teammates.searching import (
    headline_of,
    marked,
    name_vector_of,
    name_words_of,
    query_of,
    vector_of,
    words_of,
)
from threads.models import File, Message, MessageRole, Thread, ThreadQuerySet

MOST = 20  # of each kind, but for threads
MOST_THREADS = 60
LOOKED_AT = 500  # messages, to find threads by


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
    if words_of(text) is None:
        return SearchResults()
    name = text.strip()
    return SearchResults(
        threads=threads_saying(access, text, limit=limit),
        runs=page(runs_asked(Run.objects.visible_to(access), text).newest_first(), limit),
        teammates=_teammates.all(access, name=name)[:limit],
        tasks=_tasks.all(access, name=name)[:limit],
        files=_files.all(access, words=name_words_of(text) or "")[:limit],
    )


def threads_saying(access: Access, text: str, *, limit: int) -> list[tuple[Thread, str]]:
    """Up to `limit`, at most `MOST_THREADS`, threads whose title or messages have all of the words,
    each once, with the words around the newest place."""
    words = words_of(text)
    if words is None:
        return []
    found = {thread.pk: (thread, "") for thread in _titled.all(access, words=words)[:limit]}
    newest: dict[int, int] = {}  # message by thread
    for thread_id, message_id in _said.all(access, words=words):
        newest.setdefault(thread_id, message_id)
    shown = [pk for thread, pk in newest.items() if thread in found]
    shown += [pk for thread, pk in newest.items() if thread not in found][: limit - len(found)]
    for message in _around.all(words=words, message_ids=shown):
        found[message.thread_id] = (message.thread, marked(vars(message)["around"]))
    return list(found.values())


def runs_asked(runs: RunQuerySet, text: str) -> RunQuerySet:
    """Of `runs`, those that were asked for in all of the words."""
    words = words_of(text)
    if words is None:
        return runs
    asked = Message.objects.alias(words=vector_of("content")).filter(
        words=query_of(words), role=MessageRole.USER
    )
    return runs.filter(prompt__in=asked)


@scoped_query
def _titled(access: Access, words: Hole) -> ThreadQuerySet:
    threads = Thread.objects.visible_to(access).listed().for_list()
    titled = threads.alias(words=vector_of("title")).filter(words=query_of(words))
    return titled.order_by("-updated_at")[:MOST_THREADS]


@scoped_query
def _said(access: Access, words: Hole) -> "QuerySet[Message, tuple[int, int]]":
    """Threads and messages, newest first."""
    threads = Thread.objects.visible_to(access).listed()
    said = Message.objects.alias(words=vector_of("content")).filter(
        words=query_of(words), thread__in=threads
    )
    return said.order_by("-id").values_list("thread", "pk")[:LOOKED_AT]


@compiled
def _around(words: Hole, message_ids: Hole) -> "QuerySet[Message]":
    """Messages, newest first, with the words around what was found."""
    shown = Message.objects.filter(pk__any=message_ids).order_by("-id")
    around = headline_of("content", query_of(words))
    return shown.annotate(around=around).select_related("thread__teammate").defer("content")


def _has(text: str, part: Hole) -> StrIndex:
    """Where a text has a part, whatever the case; 0 if nowhere."""
    return StrIndex(Upper(F(text)), Upper(Value(part)))


@scoped_query
def _teammates(access: Access, name: Hole) -> TeammateQuerySet:
    seen = Teammate.objects.visible_to(access).current().with_version()
    found = seen.alias(in_name=_has("name", name), in_role=_has("version__role", name))
    return found.exclude(in_name=0, in_role=0)[:MOST]


@scoped_query
def _tasks(access: Access, name: Hole) -> TaskQuerySet:
    seen = Task.objects.visible_to(access).saved().current().select_related("teammate")
    return seen.alias(in_name=_has("name", name)).filter(in_name__gt=0).order_by("-id")[:MOST]


@scoped_query
def _files(access: Access, words: Hole) -> "QuerySet[File]":
    named = File.objects.alias(words=name_vector_of("name")).filter(
        words=query_of(words), thread__in=Thread.objects.visible_to(access)
    )
    return named.select_related("thread").order_by("-id")[:MOST]
