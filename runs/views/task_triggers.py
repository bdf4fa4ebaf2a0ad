"""What starts a task by itself: made, changed, tried."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from runs.models import Task, Trigger
from runs.tasks import tasks
from runs.triggers import definitions, inbound_webhook, schedule_text
from runs.triggers.forecast import forecast, often_a_day
from runs.views.channels import (
    SAMPLE,
    hook_address,
    refuse_senders,
    say_what_came,
    senders_of,
)
from runs.views.forms.tasks import ScheduleForm
from runs.views.tasks import find_task, task_page, triggers_shown
from teammates.errors import DomainError, Invalid, NotFound
from teammates.types import Context
from teammates.web.pages import PageRequest, add_refusal, number_of


@require_POST
def schedule_preview(request: PageRequest) -> HttpResponse:
    """When a schedule that is not saved yet would be due, and what it would cost."""
    form = ScheduleForm(request.POST)
    draft = None
    if form.is_valid():
        try:
            draft = form.draft()
        except DomainError as error:
            add_refusal(form, error)
    # What is only not filled in yet is no mistake.
    wrong = [
        (name, errors[0])
        for name, errors in form.errors.as_data().items()
        if errors[0].code != "required"
    ]
    said = [
        text
        if name == "__all__" or text.startswith(str(form[name].label))
        else f"{form[name].label}: {text}"
        for name, text in ((name, error.messages[0]) for name, error in wrong)
    ]
    context: Context = {"problem": " ".join(said)}
    if draft is not None:
        task = (
            Task.objects.visible_to(request.access)
            .filter(pk=number_of(request.POST.get("task", "")) or 0)
            .first()
        )
        context |= {
            "words": schedule_text.in_words(draft),
            "dues": schedule_text.preview(draft),
            "draft": draft,
            "forecast": forecast(draft, task) if task else None,
            "a_day": often_a_day(draft),
            "mails": task.email_notifications if task else "email_notifications" in request.POST,
        }
    return render(request, "tasks/_schedule_preview.html", context)


@require_http_methods(["GET", "POST"])
def schedule_edit(
    request: PageRequest, task_id: int, trigger_id: int | None = None
) -> HttpResponse:
    """A schedule, new or changed, beside a preview of its next times."""
    access, task = request.access, find_task(request, task_id)
    tasks.require_editor(access, task)
    trigger = definitions.get_trigger(task, f"schedule_{trigger_id}") if trigger_id else None
    now = ScheduleForm.now(trigger, access.organization.timezone)
    form = ScheduleForm(request.POST or None, initial=now)
    if request.method == "POST" and form.is_valid():
        try:
            if trigger is None:
                definitions.add_schedule(access, task, **form.timing())
            elif changes := form.changes():
                definitions.update_trigger(access, task, trigger, **changes)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, "The schedule is saved.")
            return redirect(f"{task.get_absolute_url()}?tab=triggers")
    context: Context = {"task": task, "form": form, "trigger": trigger}
    if not form.is_bound:
        draft = trigger or Trigger(
            kind="schedule", cron="0 9 * * 1-5", timezone=access.organization.timezone
        )
        context |= {
            "words": schedule_text.in_words(draft),
            "dues": schedule_text.preview(draft),
            "draft": draft,
            "forecast": forecast(draft, task),
            "a_day": often_a_day(draft),
            "mails": task.email_notifications,
        }
    return render(request, "tasks/schedule_edit.html", context, status=422 if form.errors else 200)


@require_POST
def trigger_act(request: PageRequest, task_id: int) -> HttpResponse:
    """Pause, resume or remove a schedule; everything about the webhook and the inbox."""
    access, task = request.access, find_task(request, task_id)
    act, live = request.POST.get("act", ""), ""
    match act:
        case "pause" | "resume" | "delete":
            trigger = definitions.get_trigger(task, request.POST.get("trigger", ""))
            if act == "delete":
                definitions.delete_trigger(access, task, trigger)
            else:
                definitions.update_trigger(access, task, trigger, enabled=act == "resume")
            said = {"pause": "paused", "resume": "on again", "delete": "removed"}[act]
            messages.success(request, f"The schedule is {said}.")
        case "hook_make":
            live = hook_address(
                request, "tasks", task.pk, definitions.make_webhook(access, task)[1]
            )
        case "hook_pause" | "hook_resume":
            definitions.pause_webhook(access, task, paused=act == "hook_pause")
        case "hook_remove":
            definitions.remove_webhook(access, task)
            messages.success(request, "The webhook is gone; its log stays.")
        case "hook_sample":
            tasks.require_editor(access, task)
            hook = definitions.webhook_of(task)
            if hook is None:
                raise NotFound("There is no webhook yet.")
            got = inbound_webhook.send_sample(hook, SAMPLE)
            say_what_came(request, got.firing)
        case "inbox_on":
            definitions.open_inbox(access, task, allowed_senders=None)
            messages.success(request, "The address takes mails.")
        case "inbox_off":
            definitions.close_inbox(access, task)
            messages.success(request, "The address is gone.")
        case "inbox_senders":
            try:
                definitions.allow_senders(access, task, senders_of(request))
            except Invalid as error:
                context = triggers_shown(request, task)
                context["reach"] = refuse_senders(request, context["reach"], error)
                return task_page(request, task, "triggers", context, status=422)
            messages.success(request, "Saved who may write to it.")
        case _:
            raise Invalid("Choose what to do.")
    if live:
        fresh = find_task(request, task_id)
        return task_page(
            request, fresh, "triggers", triggers_shown(request, fresh) | {"live": live}
        )
    return redirect(f"{task.get_absolute_url()}?tab=triggers")
