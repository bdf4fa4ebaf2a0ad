"""What teammates know: memories and skills."""

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from teammates.access import Access
from teammates.errors import DomainError, NotFound
from teammates.forms.knowledge import MemoryForm, SkillForm
from teammates.knowledge import memories
from teammates.knowledge.skills import add_skill, delete_skill, list_skills, update_skill
from teammates.models import Author, Memory, Skill, SkillStatus
from teammates.roster import lookup
from teammates.web.pages import PageRequest, add_refusal, page_of

PAGE_SIZE = 50


@require_http_methods(["GET", "POST"])
def memory_list(request: PageRequest) -> HttpResponse:
    """Memories of the account; those of end users are on the pages of these."""
    access = request.access
    form = MemoryForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            memories.add_memory(access, form.cleaned_data["content"], author=Author.PERSON)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, "Remembered. Runs that begin from now on are told.")
            return redirect("teammates:memory_list")
    rows = _memories(access)
    query = request.GET.get("q", "").strip()
    if query:
        rows = rows.filter(content__icontains=query)
    page = page_of(request, rows, "-id", size=PAGE_SIZE)
    return render(
        request,
        "settings/memory_list.html",
        {
            "memories": page.rows,
            "page": page,
            "query": query,
            "form": form,
            "used": Memory.objects.filter(organization=access.organization, end_user=None).count(),
            "capacity": memories.MOST_MEMORIES,
            "forgotten": request.session.pop("forgotten", None),
        },
        status=422 if form.errors else 200,
    )


@require_POST
def memory_forget(request: PageRequest, memory_id: int) -> HttpResponse:
    memory = memories.get_memory(request.access, memory_id)
    memories.forget(request.access, memory_id)
    if memory.teammate_id is None:
        request.session["forgotten"] = memory.content
    messages.success(request, "Forgotten.")
    return redirect("teammates:memory_list")


def _memories(access: Access) -> "QuerySet[Memory]":
    found = memories.search_memories(access)
    return found.select_related("end_user", "teammate", "written_by", "created_by")


@require_GET
def skill_list(request: PageRequest) -> HttpResponse:
    skills = list_skills(request.access)
    return render(
        request,
        "settings/skill_list.html",
        {
            "page": page_of(request, skills, "name", "id", size=PAGE_SIZE),
            "may_manage": request.access.may("data.personas.manage"),
        },
    )


@require_http_methods(["GET", "POST"])
def skill_edit(request: PageRequest, skill_id: int | None = None) -> HttpResponse:
    """Write a skill, or change it; its short name stays."""
    access = request.access
    access.require("data.personas.manage")
    skill = None
    if skill_id is not None:
        skill = Skill.objects.filter(organization=access.organization, pk=skill_id).first()
        if skill is None:
            raise NotFound("There is no such skill.")
    teammates = lookup.own_teammates(access)
    initial = (
        {
            "name": skill.name,
            "description": skill.description,
            "body": skill.body,
            "is_active": skill.status == SkillStatus.ACTIVE,
        }
        if skill
        else {}
    )
    form = SkillForm(teammates, request.POST or None, initial=initial, is_new=skill is None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        texts = {name: given[name] for name in ("name", "description", "body")}
        try:
            if skill is None:
                chosen = given.get("teammate")
                add_skill(
                    access,
                    **texts,
                    teammate=lookup.get_teammate(access, int(chosen)) if chosen else None,
                )
            else:
                status = SkillStatus.ACTIVE if given["is_active"] else SkillStatus.DISABLED
                update_skill(access, skill, **texts, status=status)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"{texts['name']} is saved.")
            return redirect("teammates:skill_list")
    return render(
        request,
        "settings/skill_form.html",
        {"form": form, "skill": skill},
        status=422 if form.errors else 200,
    )


@require_POST
def skill_delete(request: PageRequest, skill_id: int) -> HttpResponse:
    access = request.access
    skill = Skill.objects.filter(organization=access.organization, pk=skill_id).first()
    if skill is None:
        raise NotFound("There is no such skill.")
    delete_skill(access, skill)
    messages.success(request, f"{skill.name} is deleted.")
    return redirect("teammates:skill_list")
