"""What people do with a teammate: pause, archive, reach it, restore a version."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from runs.tasks import staffing
from runs.triggers import inbound_webhook
from runs.views.channels import (
    SAMPLE,
    hook_address,
    refuse_senders,
    say_what_came,
    senders_of,
)
from runs.views.teammates import teammate_page, triggers_shown
from teammates.errors import Invalid, NotFound
from teammates.roster import channels, editing, lookup
from teammates.roster.editing import VERSION_FIELDS
from teammates.web.pages import PageRequest

# --- acts ---------------------------------------------------------------------------------------


@require_POST
def teammate_act(request: PageRequest, teammate_id: int) -> HttpResponse:
    """Pause, resume, archive, bring back, show to everybody or to its maker alone."""
    access = request.access
    teammate = lookup.get_teammate(access, teammate_id)
    lookup.require_editor(access, teammate)
    act = request.POST.get("act", "")
    said = ""
    match act:
        case "pause" | "resume":
            staffing.set_enabled(request.access, teammate, enabled=act == "resume")
            said = "is paused, and its schedules with it" if act == "pause" else "is active again"
        case "archive":
            staffing.archive_teammate(access, teammate)
            said = "is archived; its threads and runs are kept"
        case "unarchive":
            staffing.unarchive_teammate(access, teammate)
            said = "is restored and paused"
        case "personal" | "organization":
            editing.update_teammate(access, teammate, visibility=act)
            said = (
                "is visible to its maker only" if act == "personal" else "is visible to everybody"
            )
        case "default":
            access.require("org.settings.manage")
            lookup.make_default(access, teammate)
            said = "is the default teammate"
        case _:
            raise Invalid("Choose what to do.")
    messages.success(request, f"{teammate.name} {said}.")
    return redirect(teammate)


@require_POST
def teammate_reach(request: PageRequest, teammate_id: int) -> HttpResponse:
    """Its webhook, its address, who may write to it, and the mailbox that it reads."""
    teammate = lookup.get_teammate(request.access, teammate_id)
    lookup.require_editor(request.access, teammate)
    act, live = request.POST.get("act", ""), ""
    match act:
        case "hook_make":
            token = channels.make_webhook(request.access, teammate)
            live = hook_address(request, "mates", teammate.pk, token)
        case "hook_pause" | "hook_resume":
            channels.pause_webhook(request.access, teammate, paused=act == "hook_pause")
        case "hook_remove":
            channels.remove_webhook(request.access, teammate)
            messages.success(request, "The webhook is gone; its log stays.")
        case "hook_sample":
            say_what_came(request, inbound_webhook.send_sample(teammate, SAMPLE).firing)
        case "inbox_on" | "inbox_off":
            channels.set_inbox(request.access, teammate, enabled=act == "inbox_on")
        case "inbox_senders":
            try:
                editing.update_teammate(
                    request.access, teammate, allowed_senders=senders_of(request)
                )
            except Invalid as error:
                context = triggers_shown(request, teammate)
                context["reach"] = refuse_senders(request, context["reach"], error)
                return teammate_page(request, teammate, "triggers", context, status=422)
            messages.success(request, "Saved who may write to it.")
        case "mailbox_on" | "mailbox_off":
            channels.set_fetchmail(request.access, teammate, enabled=act == "mailbox_on")
            if act == "mailbox_off":
                messages.success(request, "The mailbox is gone.")
        case _:
            raise Invalid("Choose what to do.")
    if live:
        fresh = lookup.get_teammate(request.access, teammate_id)
        return teammate_page(
            request, fresh, "triggers", triggers_shown(request, fresh) | {"live": live}
        )
    return redirect(f"{teammate.get_absolute_url()}?tab=triggers")


@require_POST
def version_restore(request: PageRequest, teammate_id: int, number: int) -> HttpResponse:
    """Make an old version the next one."""
    teammate = lookup.get_teammate(request.access, teammate_id)
    lookup.require_editor(request.access, teammate)
    old = teammate.versions.filter(number=number).first()
    if old is None:
        raise NotFound("There is no such version.")
    fields = {name: getattr(old, name) for name in VERSION_FIELDS}
    changed = editing.update_teammate(request.access, teammate, **fields)
    now = changed.current_version.number
    messages.success(request, f"v{number} is in use again, as v{now}.")
    return redirect(f"{teammate.get_absolute_url()}?tab=versions")
