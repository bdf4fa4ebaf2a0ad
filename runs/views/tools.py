"""Pages of tools, and of what acts without asking."""

from typing import Any

from django.contrib import messages
from django.db.models import Count, Max
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from teammates import sandbox, tools
from teammates.access import Access
from teammates.errors import DomainError, Invalid, NotFound
from teammates.forms.tools import PermissionForm, SearchForm, ToolForm
from teammates.integrations import server_lookup, tool_policies, web_search
from teammates.models import (
    PermissionPolicy,
    PolicySource,
    Role,
)
from teammates.tools.base import Tool
from teammates.types import Context
from teammates.web.pages import PageRequest, add_refusal, page_of

PAGE_SIZE = 50


# --- tools --------------------------------------------------------------------------------------


@require_GET
def tool_list(request: PageRequest) -> HttpResponse:
    """Every tool, by where it comes from, and how this organization uses it."""
    return _tools_page(request)


def _tools_page(request: PageRequest, form: SearchForm | None = None) -> HttpResponse:
    """With the `form` of web search as somebody filled it in, if they did."""
    search = web_search.of_organization(request.access)
    if form is None:
        now = {"kind": search.kind, "address": search.address} if search else None
        form = SearchForm(initial=now)
    settings = tool_policies.settings_of(request.access.organization)
    groups: list[Context] = [
        {
            "name": group.title,
            "description": group.description,
            "rows": [(tool, settings.get(tool.name)) for tool in group.tools],
            "problem": sandbox.why_not() if group.name == "code" else "",
        }
        for group in tools.GROUPS.values()
        if group.tools
    ]
    for server in server_lookup.visible_servers(request.access):
        groups.append(
            {
                "name": server.name,
                "description": server.description,
                "server": server,
                "rows": [
                    (tool, settings.get(tool.name)) for tool in server_lookup.tools_of(server)
                ],
            }
        )
    return render(
        request,
        "settings/tool_list.html",
        {
            "groups": groups,
            "may_manage": request.access.may("data.permissions.manage"),
            "web_search": search,
            "search_form": form,
            "may_set_search": request.access.may("data.llm_credentials.manage"),
        },
        status=422 if form.errors else 200,
    )


@require_POST
def search_settings(request: PageRequest) -> HttpResponse:
    """Set web search up, or turn it off."""
    form = SearchForm(request.POST)
    if "off" in request.POST:
        if found := web_search.of_organization(request.access):
            web_search.turn_off(request.access, found)
        messages.success(request, "Nobody searches the web any more.")
        return redirect("runs:tool_list")
    if form.is_valid():
        try:
            found = web_search.set_up(request.access, **form.cleaned_data)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"Teammates search the web through {found}.")
            return redirect("runs:tool_list")
    return _tools_page(request, form)


@require_http_methods(["GET", "POST"])
def tool_detail(request: PageRequest, name: str) -> HttpResponse:
    """One tool: what it does, when it asks, and what is let through."""
    access = request.access
    tool = _find_tool(access, name)
    setting = tool_policies.settings_of(access.organization).get(tool.name)
    now = (
        {"mode": "default", "approvals": 1}
        if setting is None
        else {
            "mode": setting.mode,
            "approvals": setting.approvals,
            "expires_after": setting.expires_after,
        }
    )
    form = ToolForm(request.POST or None, initial=now)
    if request.method == "POST" and form.is_valid():
        tool_policies.set_tool(access, tool.name, **form.cleaned_data)
        messages.success(request, f"{tool.title} is saved. It counts from the next call on.")
        deciders = access.organization.memberships.filter(role__in=[Role.OWNER, Role.ADMIN])
        if 1 < form.cleaned_data["approvals"] >= deciders.count():
            messages.warning(
                request,
                "Two owners or admins must agree who did not start the run; there are too few "
                "for runs of their own.",
            )
        return redirect("runs:tool_detail", name=tool.name)
    return render(
        request,
        "settings/tool_detail.html",
        {
            "tool": tool,
            "form": form,
            "policies": _policies(access).filter(tool=tool.name),
            "may_manage": access.may("data.permissions.manage"),
        },
        status=422 if form.errors else 200,
    )


def _find_tool(access: Access, name: str) -> Tool:
    if name in tools.REGISTRY:
        return tools.REGISTRY[name]
    for server in server_lookup.visible_servers(access):
        for tool in server_lookup.tools_of(server):
            if tool.name == name:
                return tool
    raise NotFound("There is no such tool.")


# --- standing permissions -----------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
def permission_list(request: PageRequest) -> HttpResponse:
    """What acts without asking, in which scope, since when, and what it let through."""
    access = request.access
    form = PermissionForm(_choices(access), request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            scope = access.for_end_user(form.cleaned_data["user_id"] or None)
            if scope.end_user is not None and scope.end_user.pk is None:
                raise Invalid("There is no end user of that id yet.")
            tool_policies.allow_tool(
                scope, form.cleaned_data["tool"], pattern=form.pattern, source=PolicySource.PAGE
            )
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"{form.cleaned_data['tool']} no longer asks for this.")
            return redirect("runs:permission_list")
    page = page_of(request, _policies(access), "-id", size=PAGE_SIZE)
    return render(
        request,
        "settings/permission_list.html",
        {
            "policies": page.rows,
            "page": page,
            "form": form,
            "may_manage": access.may("data.permissions.manage"),
        },
        status=422 if form.errors else 200,
    )


def _choices(access: Access) -> list[tuple[str, str]]:
    """What a standing permission may be for: tools that may ask, and whole apps."""
    connected = server_lookup.visible_servers(access)
    every = [*tools.REGISTRY.values(), *(t for s in connected for t in server_lookup.tools_of(s))]
    chosen = [(tool.name, tool.title) for tool in every if tool.changes and tool.may_remember]
    return chosen + [(server.slug, f"{server.name}: everything") for server in connected]


@require_GET
def permission_detail(request: PageRequest, policy_id: int) -> HttpResponse:
    """One standing permission and the calls that it let through."""
    policy = _policies(request.access).filter(pk=policy_id).first()
    if policy is None:
        raise NotFound("There is no such permission.")
    calls = policy.calls.select_related("run__teammate", "run__prompt", "run__task")
    if not request.access.is_admin:
        calls = calls.filter(run__created_by=request.access.user)
    return render(
        request,
        "settings/permission_detail.html",
        {
            "policy": policy,
            "policies": [policy],
            "calls": calls.order_by("-id")[:100],
            "may_manage": request.access.may("data.permissions.manage"),
        },
    )


@require_POST
def permission_revoke(request: PageRequest, policy_id: int) -> HttpResponse:
    access = request.access
    policy = _policies(access).filter(pk=policy_id).first()
    if policy is None:
        raise NotFound("There is no such permission.")
    scope = access.for_end_user(policy.end_user.external_id if policy.end_user else None)
    tool_policies.revoke(scope, policy.pk)
    messages.success(request, f"{policy.tool} asks again.")
    return redirect("runs:permission_list")


def _policies(access: Access) -> Any:
    """Those of end users are for who manages end users."""
    rows = PermissionPolicy.objects.filter(organization=access.organization)
    if not access.may("data.end_users.manage"):
        rows = rows.filter(end_user=None)
    return (
        rows.select_related("end_user", "created_by")
        .annotate(let_through=Count("calls"), last_at=Max("calls__started_at"))
        .order_by("-id")
    )
