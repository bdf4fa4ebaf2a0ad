"""What a run may see and do: what its owner may, and no more than where its words came from."""

from dataclasses import replace

from django.db.models import QuerySet

from runs.creation.origins import narrowed
from runs.models import Lesson, Run, RunFile, Task
from teammates.access import Access, access_of_key, access_of_owner
from teammates.errors import Forbidden
from teammates.models import Membership
from threads.models import File, FileQuerySet


def access_of_run(run: Run) -> Access:
    """The access with which a run's tools act: of whoever started it, narrowed to its end user and
    its origin. Raises `Forbidden` once they are gone."""
    access = None
    if run.created_by is not None or run.is_triggered:
        access = access_of_owner(run.organization, run.created_by)
    elif run.api_key is not None:
        key = run.api_key
        role = (
            Membership.objects.filter(organization=run.organization, user=key.created_by)
            .values_list("role", flat=True)
            .first()
        )
        access = access_of_key(key, role) if key.is_valid else None
    if access is None:
        raise Forbidden("Whoever started this run is no longer here; it may change nothing.")
    if run.api_key is not None and run.api_key.revoked_at is not None:
        raise Forbidden("The key that started this run is revoked; it may change nothing.")
    if run.api_key is not None and run.api_key.scopes:  # what a key may not do, its runs may not
        access = replace(access, api_key=run.api_key)
    return narrowed(replace(access, end_user=run.end_user, of_run=True), run.origin)


def readable_files(run: Run) -> FileQuerySet:
    """The files of its thread that a run may read: words from outside reach their own alone."""
    found = File.objects.filter(thread=run.thread_id)
    if run.origin:
        theirs = RunFile.objects.filter(run__thread=run.thread_id, run__origin=run.origin)
        found = found.filter(pk__in=theirs.values("file"))
    return found


def lessons_for(run: Run, task: Task) -> "QuerySet[Lesson]":
    """What a run of the task is told of earlier ones, affirmed last first."""
    lessons = Lesson.objects.filter(task=task).order_by("-last_reaffirmed_at", "-id")
    if run.origin:
        theirs = Run.objects.filter(task=task, origin=run.origin)
        lessons = lessons.filter(source_run_id__in=theirs.values("pk"))
    return lessons
