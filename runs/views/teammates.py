"""Teammates: the list, the templates, and one of them with its tabs."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.db.models import Count, Exists, OuterRef, Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from runs.models import ACTIVE, FINISHED, Gate, GateStatus, Run, RunFile, RunStatus, Task
from runs.queries.histogram import errors, survey
from runs.triggers import history
from runs.usage import totals
from runs.usage.periods import Span
from runs.views.channels import (
    InboundChannels,
    what_starts,
)
from teammates.access import Access
from teammates.errors import DomainError
from teammates.forms.roster import TeammateForm
from teammates.knowledge import documents, memories, skills
from teammates.llm import catalog
from teammates.models import Effort, Memory, PermissionMode, Teammate, TeammateVersion, Visibility
from teammates.providers.base import estimate_tokens
from teammates.roster import editing, lookup
from teammates.roster.editing import VERSION_FIELDS, EditedMeanwhile
from teammates.roster.prompt import standing_prompt
from teammates.templatetags.parts import Tab
from teammates.types import Context
from teammates.web.diffs import changed_lines
from teammates.web.pages import PageRequest, add_refusal, number_of
from threads.models import File

MOST = 200
DAYS = 30
# Fields of a version as people call them.
FIELD_NAMES = {
    "role": "Role",
    "goals": "Goals",
    "instructions": "Instructions",
    "model": "Model",
    "effort": "Effort",
    "sampling": "How it chooses its words",
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
    return teammate_page(request, teammate, tab, context)


def teammate_page(
    request: PageRequest, teammate: Teammate, tab: str, context: Context, status: int = 200
) -> HttpResponse:
    frame = {
        "teammate": teammate,
        "version": teammate.current_version,
        "tab": tab,
        "template": f"teammates/_{tab}.html",
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
    return render(request, "teammates/teammate_detail.html", frame | context, status=status)


def _overview(request: PageRequest, teammate: Teammate) -> Context:
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
    sums = totals.by_teammate(
        access, Span.last(DAYS, access.organization.zone), teammate=teammate
    ).get(teammate.pk)
    return {
        "runs": runs.filter(status__in=FINISHED).for_list().newest_first()[:10],
        "whole": whole,
        "sums": sums,
        "cost_per_run": sums["cost"] / sums["runs"] if sums and sums["runs"] else None,
        "succeeded": states.get(RunStatus.COMPLETED, 0) / ended if ended else None,
        "errors": errors(recent)[:5],
        "denied": denied.annotate(n=Count("pk")).order_by("-n")[:5],
        "live": runs.filter(status__in=ACTIVE).for_list().newest_first()[:5],
    }


def _setup(request: PageRequest, teammate: Teammate) -> Context:
    now = TeammateForm.now(teammate.current_version) | {"name": teammate.name}
    form = TeammateForm(request.access.organization, initial=now)
    return {
        "form": form,
        "base": teammate.current_version.number,
        "preview": preview(request.access, form, teammate),
    }


def _save(request: PageRequest, teammate: Teammate) -> HttpResponse:
    """The next version; not over what somebody else saved since the form was opened."""
    access = request.access
    lookup.require_editor(access, teammate)
    version = teammate.current_version
    now = TeammateForm.now(version) | {"name": teammate.name}
    form = TeammateForm(access.organization, request.POST, initial=now)
    base = number_of(request.POST.get("base", ""))
    context: Context = {"form": form, "base": base or version.number}
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
    context["preview"] = preview(access, form, teammate)
    return teammate_page(request, teammate, "setup", context, status=422)


@require_POST
def teammate_preview(request: PageRequest, teammate_id: int | None = None) -> HttpResponse:
    """What a run would be told by a form that is not saved yet."""
    access = request.access
    teammate = lookup.get_teammate(access, teammate_id) if teammate_id else None
    form = TeammateForm(access.organization, request.POST)
    form.is_valid()
    return render(
        request, "teammates/_prompt_preview.html", {"preview": preview(access, form, teammate)}
    )


def preview(access: Access, form: TeammateForm, teammate: Teammate | None) -> Context:
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


def _versions(request: PageRequest, teammate: Teammate) -> Context:
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
        "old_number": old.number if old else versions[1].number if len(versions) > 1 else None,
        "new_number": new.number if new else versions[0].number,
        "changes": _changes(old, new) if old and new else None,
    }


def _changes(old: TeammateVersion, new: TeammateVersion) -> list[Context]:
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
    if isinstance(value, dict):
        return ", ".join(f"{key} {_in_words('', one)}" for key, one in value.items()) or "as usual"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    labels = {"permission_mode": PermissionMode, "effort": Effort}
    if name in labels and value in labels[name].values:
        return str(labels[name](value).label)
    return str(value) or "empty"


def triggers_shown(request: PageRequest, teammate: Teammate) -> Context:
    rows = Task.objects.visible_to(request.access).saved().current().filter(teammate=teammate)
    shown = list(rows.prefetch_related("triggers").order_by("-id")[:MOST])
    for task in shown:
        task.teammate = teammate
    calls = history.firings_seen(request.access).filter(teammate=teammate, task=None)
    return {
        "tasks": [(task, what_starts(task)) for task in shown],
        "reach": InboundChannels.of_teammate(request, teammate),
        "calls": calls.order_by("-id")[:50],
    }


def _memory(request: PageRequest, teammate: Teammate) -> Context:
    scope = replace(request.access, end_user=teammate.end_user)
    rows = memories.search_memories(scope)
    rows = rows.filter(Q(teammate=teammate) | Q(written_by=teammate))
    return {"memories": rows.select_related("end_user", "created_by").order_by("-id")[:MOST]}


def _files(request: PageRequest, teammate: Teammate) -> Context:
    runs = Run.objects.visible_to(request.access).filter(teammate=teammate)
    made = RunFile.objects.filter(file=OuterRef("pk"), run__in=runs, is_attachment=False)
    rows = File.objects.filter(Exists(made)).select_related("thread")
    return {"files": rows.order_by("-pk")[:50]}


def _access(request: PageRequest, teammate: Teammate) -> Context:
    return {"visibilities": Visibility.choices}


PARTS: dict[str, Callable[[PageRequest, Teammate], Context]] = {
    "overview": _overview,
    "setup": _setup,
    "versions": _versions,
    "triggers": triggers_shown,
    "memory": _memory,
    "files": _files,
    "access": _access,
}
