"""What the runs of a task learned."""

from django.db.models import F
from django.utils import timezone

from runs.models import Lesson, Run, Task
from runs.tasks.tasks import require_editor
from teammates.access import Access
from teammates.errors import NotFound, Unsuitable
from teammates.trust import audit

MOST_LESSONS = 50  # of a task


def learn(run: Run, text: str, when_applicable: str = "") -> Lesson:
    """Keep what a run found out for later runs of its task; the same again affirms it.

    A full task forgets the lesson that was affirmed longest ago. Call inside the run's
    transaction. Raises `Unsuitable` where the task keeps none.
    """
    if run.task.is_ad_hoc or not run.task.learns:
        raise Unsuitable("Only runs of a saved task that learns keep lessons.")
    text = " ".join(text.split())
    now = timezone.now()
    Task.objects.select_for_update(no_key=True).get(pk=run.task_id)
    known = Lesson.objects.filter(task_id=run.task_id, text=text)
    if known.update(reaffirm_count=F("reaffirm_count") + 1, last_reaffirmed_at=now):
        return known.get()
    oldest = Lesson.objects.filter(task_id=run.task_id).order_by("-last_reaffirmed_at", "-id")
    for extra in oldest[MOST_LESSONS - 1 :]:
        extra.delete()
    return Lesson.objects.create(
        task_id=run.task_id,
        text=text,
        when_applicable=when_applicable,
        source_run_id=run.pk,
        last_reaffirmed_at=now,
    )


def lessons_of(task: Task) -> list[Lesson]:
    """What the task's runs are told, affirmed last first."""
    return list(task.lessons.order_by("-last_reaffirmed_at", "-id"))


@audit.recorded("lesson.forget")
def forget_lesson(access: Access, task: Task, lesson_id: str) -> None:
    """Raises `NotFound`."""
    require_editor(access, task)
    is_number = lesson_id.isascii() and lesson_id.isdigit() and len(lesson_id) < 19
    if not is_number or not task.lessons.filter(pk=int(lesson_id)).delete()[0]:
        raise NotFound("The task has no such lesson.", code="lessons.not_found")


@audit.recorded("lesson.clear")
def clear_lessons(access: Access, task: Task) -> int:
    """Forget all; returns how many there were."""
    require_editor(access, task)
    return int(task.lessons.all().delete()[0])
