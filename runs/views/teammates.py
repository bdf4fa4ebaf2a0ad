"""Teammates: the list, the templates, and one of them with its tabs."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.db.models import Count, Exists, OuterRef, Q
from django.db.models.functions import Coalesce
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from runs.models import ACTIVE, FINISHED, Gate, GateStatus, Run, RunFile, RunStatus, Task
from runs.queries import activity
from runs.queries.histogram import errors, survey
from runs.tasks import staffing
from runs.triggers import firing, inbound_webhook
from runs.usage import totals
from runs.usage.periods import Span
from runs.views.channels import (
    SAMPLE,
    Reach,
    hook_address,
    refuse_senders,
    say_what_came,
    senders_of,
    what_starts,
)
from teammates.access import Access
from teammates.errors import DomainError, Invalid, NotFound
from teammates.forms.roster import TeammateForm
from teammates.knowledge import documents, memories, skills
from teammates.llm import catalog
from teammates.models import Effort, Memory, PermissionMode, Teammate, TeammateVersion, Visibility
from teammates.providers.base import estimate_tokens
from teammates.roster import channels, editing, lookup
from teammates.roster.editing import VERSION_FIELDS, EditedMeanwhile
from teammates.roster.prompt import standing_prompt
from teammates.roster.templates import CATALOG
from teammates.templatetags.parts import Tab
from teammates.tools import GROUPS
from teammates.web.diffs import changed_lines
from teammates.web.pages import PageRequest, add_refusal, number_of, page_of
from threads.models import File

PAGE_SIZE = 60
LAST_PLACE = 2**31 - 1  # of those that nobody put in order
MOST = 200
DAYS = 30
# Fields of a version as people call them.
FIELD_NAMES = {
    "role": "Role",
    "goals": "Goals",
    "instructions": "Instructions",
    "model": "Model",
    "effort": "Effort",
    "permission_mode": "When it acts",
    "tools": "Apps",
    "disabled_tools": "Without these tools",
    "memory": "Memory",
    "history": "History",
    "task_setup_tools": "Set-up tools",
    "feedback": "Reports problems",
    "self_improvement": "Learns",
    "prompt_profile": "Told besides",
}


# --- the list -----------------------------------------------------------------------------------


@require_GET
def teammate_list(request: PageRequest) -> HttpResponse:
    """Cards in the order that people gave them, with a week's work and a month's cost."""
    access = request.access
    query = request.GET
    shows_archived = "archived" in query
    rows = activity.with_last_active(Teammate.objects.visible_to(access).with_version())
    rows = rows.filter(archived_at__isnull=False) if shows_archived else rows.current()
    sought, mode = query.get("q", "").strip()[:200], query.get("mode", "")
    if sought:
        rows = rows.filter(Q(name__icontains=sought) | Q(version__role__icontains=sought))
    if mode in PermissionMode.values:
        rows = rows.filter(version__permission_mode=mode)
    rows = rows.annotate(place=Coalesce("display_order", LAST_PLACE))
    page = page_of(request, rows, "place", "id", size=PAGE_SIZE)
    shown = page.rows
    sums = totals.by_teammate(access, Span.last(DAYS), teammate__in=shown)
    busy = activity.under_way(Run.objects.visible_to(access).filter(teammate__in=shown))
    return render(
        request,
        "runs/teammate_list.html",
        {
            "rows": [(one, sums.get(one.pk), busy.get(one.pk)) for one in shown],
            "page": page,
            "sought": sought,
            "mode": mode,
            "modes": PermissionMode.choices,
            "shows_archived": shows_archived,
            "is_filtered": bool(sought or mode),
            "templates": list(CATALOG.values())[:4],
        },
    )


@require_http_methods(["GET", "POST"])
def template_list(request: PageRequest) -> HttpResponse:
    """Ready-made teammates; choosing one makes it, with its tasks."""
    access = request.access
    if request.method == "POST":
        access.require("data.runs.write")
        template = CATALOG.get(request.POST.get("template", ""))
        if template is None:
            raise NotFound("There is no such template.")
        teammate = staffing.create_from_template(
            access, template, visibility=Visibility.ORGANIZATION
        )
        messages.success(request, f"{teammate.name} is ready. Look over its instructions next.")
        return redirect(f"{teammate.get_absolute_url()}?tab=setup")
    return render(request, "runs/template_list.html", {"templates": CATALOG.values()})


@require_http_methods(["GET", "POST"])
def teammate_new(request: PageRequest) -> HttpResponse:
    access = request.access
    every = {"built_in": list(GROUPS)}
    form = TeammateForm(access.organization, request.POST or None, initial=every)
    if request.method == "POST" and form.is_valid():
        access.require("data.runs.write")
        try:
            teammate = editing.create_teammate(
                access,
                visibility=Visibility.ORGANIZATION,
                **form.changes(),
            )
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"{teammate.name} is ready.")
            return redirect(teammate)
    context = {"form": form, "preview": _preview(access, form, None)}
    status = 422 if form.errors else 200
    return render(request, "runs/teammate_new.html", context, status=status)


# --- one ----------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
def teammate_detail(request: PageRequest, teammate_id: int) -> HttpResponse:
    """One tab of a teammate; posting to `setup` saves the next version."""
    teammate = lookup.get_teammate(request.access, teammate_id)
    tab = request.GET.get("tab", "overview")
    if tab not in PARTS:
        tab = "overview"
    if request.method == "POST":
        return _save(request, teammate)
    context = PARTS[tab](request, teammate)
    return _page(request, teammate, tab, context)


def _page(
    request: PageRequest, teammate: Teammate, tab: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    frame = {
        "teammate": teammate,
        "version": teammate.current_version,
        "tab": tab,
        "template": f"runs/_mate_{tab}.html",
        "tabs": [
            Tab(
                name.title() if name != "setup" else "Set-up",
                f"{teammate.get_absolute_url()}?tab={name}",
                name == tab,
            )
            for name in PARTS
        ],
        "may_edit": lookup.may_edit(request.access, teammate) and not teammate.is_archived,
    }
    return render(request, "runs/teammate_detail.html", frame | context, status=status)


def _overview(request: PageRequest, teammate: Teammate) -> dict[str, Any]:
    access = request.access
    runs = Run.objects.visible_to(access).filter(teammate=teammate)
    since = timezone.now() - timedelta(days=DAYS)
    recent = runs.filter(created_at__gte=since)
    whole = survey(recent, begins=since, ends=timezone.now())
    states: dict[str, int] = {}
    for bucket in whole.buckets.values():
        for state, n in bucket.items():
            states[state] = states.get(state, 0) + n
    ended = states.get(RunStatus.COMPLETED, 0) + states.get(RunStatus.FAILED, 0)
    denied = Gate.objects.filter(run__in=recent, status=GateStatus.DENIED).values("tool_name")
    sums = totals.by_teammate(access, Span.last(DAYS), teammate=teammate).get(teammate.pk)
    return {
        "runs": runs.filter(status__in=FINISHED).with_names().newest_first()[:10],
        "whole": whole,
        "sums": sums,
        "cost_per_run": sums["cost"] / sums["runs"] if sums and sums["runs"] else None,
        "succeeded": states.get(RunStatus.COMPLETED, 0) / ended if ended else None,
        "errors": errors(recent)[:5],
        "denied": denied.annotate(n=Count("pk")).order_by("-n")[:5],
        "live": runs.filter(status__in=ACTIVE).with_names().newest_first()[:5],
    }


def _setup(request: PageRequest, teammate: Teammate) -> dict[str, Any]:
    now = TeammateForm.now(teammate.current_version) | {"name": teammate.name}
    form = TeammateForm(request.access.organization, initial=now)
    return {
        "form": form,
        "base": teammate.current_version.number,
        "preview": _preview(request.access, form, teammate),
    }


def _save(request: PageRequest, teammate: Teammate) -> HttpResponse:
    """The next version; not over what somebody else saved since the form was opened."""
    access = request.access
    lookup.require_editor(access, teammate)
    version = teammate.current_version
    now = TeammateForm.now(version) | {"name": teammate.name}
    form = TeammateForm(access.organization, request.POST, initial=now)
    base = number_of(request.POST.get("base", ""))
    context: dict[str, Any] = {"form": form, "base": base or version.number}
    if form.is_valid():
        try:
            changed = editing.update_teammate(access, teammate, base=base, **form.changes(version))
        except EditedMeanwhile as error:
            form.add_error(None, error.message)
            context |= {"changed_since": base, "base": error.version.number}
        except DomainError as error:
            add_refusal(form, error)
        else:
            number = changed.current_version.number
            messages.success(request, f"Saved. {changed.name} is at v{number}.")
            return redirect(f"{teammate.get_absolute_url()}?tab=setup")
    context["preview"] = _preview(access, form, teammate)
    return _page(request, teammate, "setup", context, status=422)


@require_POST
def teammate_preview(request: PageRequest, teammate_id: int | None = None) -> HttpResponse:
    """What a run would be told by a form that is not saved yet."""
    access = request.access
    teammate = lookup.get_teammate(access, teammate_id) if teammate_id else None
    form = TeammateForm(access.organization, request.POST)
    form.is_valid()
    return render(
        request, "runs/_preview_prompt.html", {"preview": _preview(access, form, teammate)}
    )


def _preview(access: Access, form: TeammateForm, teammate: Teammate | None) -> dict[str, Any]:
    """The standing prompt of what the form says, what runs add to it, and what a call costs."""
    given = form.cleaned_data if form.is_bound and hasattr(form, "cleaned_data") else form.initial
    name = given.get("name") or (teammate.name if teammate else "New teammate")
    version = TeammateVersion(
        role=given.get("role") or "",
        instructions=given.get("instructions") or "",
        goals=teammate.current_version.goals if teammate else "",
        **({"prompt_profile": teammate.current_version.prompt_profile} if teammate else {}),
    )
    prompt = standing_prompt(name, version)
    tokens = estimate_tokens(prompt)
    try:
        model = catalog.resolve_model(access.organization, given.get("model") or "")
    except DomainError:
        model = None
    price = model.shown_price if model else None
    adds: list[tuple[str, int]] = []
    if teammate is not None:
        scope = (replace(access, end_user=teammate.end_user), teammate)
        adds = [
            ("memories that fit the message", Memory.objects.for_teammate(*scope).count()),
            ("skills it may load", skills.skills_for(*scope).count()),
            ("documents it may read", documents.documents_for(*scope).count()),
        ]
    return {
        "prompt": prompt,
        "tokens": tokens,
        "model": model,
        "adds": adds,
        "cost": price.uncached_input * tokens / 1_000_000 if price else None,
        "price": price,
    }


def _versions(request: PageRequest, teammate: Teammate) -> dict[str, Any]:
    """All versions with what came of them, and two of them compared."""
    versions = list(teammate.versions.select_related("created_by").order_by("-number")[:MOST])
    counts = {
        row["teammate_version"]: row
        for row in Run.objects.visible_to(request.access)
        .filter(teammate=teammate, created_at__gte=timezone.now() - timedelta(days=DAYS))
        .values("teammate_version")
        .annotate(
            runs=Count("pk"),
            completed=Count("pk", filter=Q(status=RunStatus.COMPLETED)),
            ended=Count("pk", filter=Q(status__in=[RunStatus.COMPLETED, RunStatus.FAILED])),
        )
        .order_by()
    }
    by_number = {str(one.number): one for one in versions}
    old, new = by_number.get(request.GET.get("a", "")), by_number.get(request.GET.get("b", ""))
    return {
        "versions": [(one, counts.get(one.pk)) for one in versions],
        "old": old,
        "new": new,
        "changes": _changes(old, new) if old and new else None,
    }


def _changes(old: TeammateVersion, new: TeammateVersion) -> list[dict[str, Any]]:
    found = []
    for name in VERSION_FIELDS:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        is_text = name in ("instructions", "goals")
        lines = changed_lines(before, after) if is_text else None
        found.append(
            {
                "name": FIELD_NAMES[name],
                "lines": lines,
                "before": _in_words(name, before),
                "after": _in_words(name, after),
            }
        )
    return found


def _in_words(name: str, value: Any) -> str:
    if value is None:
        return "as usual"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    labels = {"permission_mode": PermissionMode, "effort": Effort}
    if name in labels and value in labels[name].values:
        return str(labels[name](value).label)
    return str(value) or "empty"


def _triggers(request: PageRequest, teammate: Teammate) -> dict[str, Any]:
    rows = Task.objects.visible_to(request.access).saved().current().filter(teammate=teammate)
    shown = list(rows.prefetch_related("triggers").order_by("-id")[:MOST])
    for task in shown:
        task.teammate = teammate
    calls = firing.firings_seen(request.access).filter(teammate=teammate, task=None)
    return {
        "tasks": [(task, what_starts(task)) for task in shown],
        "reach": Reach.of_teammate(request, teammate),
        "calls": calls.order_by("-id")[:50],
    }


def _memory(request: PageRequest, teammate: Teammate) -> dict[str, Any]:
    scope = replace(request.access, end_user=teammate.end_user)
    rows = memories.search_memories(scope)
    rows = rows.filter(Q(teammate=teammate) | Q(written_by=teammate))
    return {"memories": rows.select_related("end_user", "created_by").order_by("-id")[:MOST]}


def _files(request: PageRequest, teammate: Teammate) -> dict[str, Any]:
    runs = Run.objects.visible_to(request.access).filter(teammate=teammate)
    made = RunFile.objects.filter(file=OuterRef("pk"), run__in=runs, is_attachment=False)
    rows = File.objects.filter(Exists(made)).select_related("thread")
    return {"files": rows.order_by("-pk")[:50]}


def _access(request: PageRequest, teammate: Teammate) -> dict[str, Any]:
    return {"visibilities": Visibility.choices}


PARTS: dict[str, Callable[[PageRequest, Teammate], dict[str, Any]]] = {
    "overview": _overview,
    "setup": _setup,
    "versions": _versions,
    "triggers": _triggers,
    "memory": _memory,
    "files": _files,
    "access": _access,
}


# --- acts ---------------------------------------------------------------------------------------


@require_POST
def teammate_act(request: PageRequest, teammate_id: int) -> HttpResponse:
    """Pause, wake, archive, bring back, show to everybody or to its maker alone."""
    access = request.access
    teammate = lookup.get_teammate(access, teammate_id)
    lookup.require_editor(access, teammate)
    act = request.POST.get("act", "")
    said = ""
    match act:
        case "pause" | "wake":
            staffing.set_enabled(request.access, teammate, enabled=act == "wake")
            said = "is paused: its schedules rest" if act == "pause" else "works again"
        case "archive":
            staffing.archive_teammate(access, teammate)
            said = "is archived; threads and runs stay"
        case "unarchive":
            staffing.unarchive_teammate(access, teammate)
            said = "is back, paused"
        case "personal" | "organization":
            editing.update_teammate(access, teammate, visibility=act)
            said = "is its maker's alone" if act == "personal" else "is everybody's"
        case "default":
            access.require("org.settings.manage")
            lookup.make_default(access, teammate)
            said = "answers when nobody is named"
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
        case "hook_pause" | "hook_wake":
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
                context = _triggers(request, teammate)
                context["reach"] = refuse_senders(request, context["reach"], error)
                return _page(request, teammate, "triggers", context, status=422)
            messages.success(request, "Saved who may write to it.")
        case "mailbox_on" | "mailbox_off":
            channels.set_fetchmail(request.access, teammate, enabled=act == "mailbox_on")
            if act == "mailbox_off":
                messages.success(request, "The mailbox is gone.")
        case _:
            raise Invalid("Choose what to do.")
    if live:
        fresh = lookup.get_teammate(request.access, teammate_id)
        return _page(request, fresh, "triggers", _triggers(request, fresh) | {"live": live})
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
