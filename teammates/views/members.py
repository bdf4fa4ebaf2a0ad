"""The people of the organization, and joining it by an invitation."""

from typing import Any

from django.contrib import messages
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from teammates.errors import DomainError
from teammates.forms.people import InvitationForm, JoinForm
from teammates.models import Invitation, Role, User
from teammates.people import account_mail, invitations, members
from teammates.types import Context
from teammates.web.pages import PageRequest, add_refusal, choose_organization, page_of, public

PAGE_SIZE = 100


@require_GET
def member_list(request: PageRequest) -> HttpResponse:
    return _page(request, InvitationForm())


def _page(request: PageRequest, form: InvitationForm, **more: Any) -> HttpResponse:
    access = request.access
    everybody = members.list_members(access)
    page = page_of(request, everybody, "id", size=PAGE_SIZE)
    owners = list(everybody.filter(role=Role.OWNER).values_list("pk", flat=True)[:2])
    context = {
        "form": form,
        "members": page.rows,
        "page": page,
        "last_owner": owners[0] if len(owners) == 1 else None,
        "invitations": invitations.list_invitations(access),
        "roles": Role.choices,
        "abilities": members.abilities(),
        "may_manage": access.may("org.members.invite"),
        **more,
    }
    status = 422 if form.errors else 200
    return render(request, "settings/member_list.html", context, status=status)


@require_POST
def member_role(request: PageRequest, membership_id: int) -> HttpResponse:
    member = members.get_member(request.access, membership_id)
    changed = members.change_role(request.access, member, request.POST.get("role", ""))
    name = changed.user.display_name
    messages.success(request, f"{name} is now {changed.get_role_display().lower()}.")
    return redirect("teammates:member_list")


@require_POST
def member_remove(request: PageRequest, membership_id: int) -> HttpResponse:
    member = members.get_member(request.access, membership_id)
    members.remove_member(request.access, member)
    if member.user_id == request.user.pk:
        return redirect("runs:home")
    messages.success(
        request, f"{member.user.display_name} is no longer a member. What they made stays."
    )
    return redirect("teammates:member_list")


@require_POST
def invitation_new(request: PageRequest) -> HttpResponse:
    """Invite somebody. The link is on this page and in their mail, and nowhere else."""
    form = InvitationForm(request.POST)
    if not form.is_valid():
        return _page(request, form)
    try:
        invitation, token = invitations.invite(request.access, **form.cleaned_data)
    except DomainError as error:
        add_refusal(form, error)
        return _page(request, form)
    return _with_link(request, invitation, token)


@require_POST
def invitation_renew(request: PageRequest, invitation_id: int) -> HttpResponse:
    invitation = invitations.get_invitation(request.access, invitation_id)
    return _with_link(request, invitation, invitations.renew(request.access, invitation))


def _with_link(request: PageRequest, invitation: Invitation, token: str) -> HttpResponse:
    link = account_mail.public_url() + reverse("teammates:join", args=[token])
    was_sent = invitations.send(invitation, link)
    return _page(request, InvitationForm(), invited=invitation, link=link, was_sent=was_sent)


@require_POST
def invitation_revoke(request: PageRequest, invitation_id: int) -> HttpResponse:
    invitation = invitations.get_invitation(request.access, invitation_id)
    invitations.revoke(request.access, invitation)
    messages.success(request, f"The invitation of {invitation.email} is taken back.")
    return redirect("teammates:member_list")


@public
@require_http_methods(["GET", "POST"])
def join(request: HttpRequest, token: str) -> HttpResponse:
    """Accept an invitation: with the account one is signed in with, or with a new one."""
    try:
        invitation = invitations.find(token)
    except DomainError as error:
        return render(request, "entry/join.html", {"gone": error.message}, status=404)
    known = User.objects.filter(email=invitation.email).first()
    form = None if known else JoinForm(request.POST or None)
    context: Context = {"invitation": invitation, "known": known, "form": form}
    if request.method == "POST":
        try:
            if form is not None:
                if not form.is_valid():
                    return render(request, "entry/join.html", context, status=422)
                user = invitations.join(invitation, **form.cleaned_data)
                login(request, user, backend="django.contrib.auth.backends.ModelBackend")
            elif isinstance(request.user, User):
                invitations.accept(invitation, user=request.user)
            else:
                return redirect(f"{reverse('teammates:sign_in')}?next={request.path}")
        except DomainError as error:
            context["refused"] = error.message
            return render(request, "entry/join.html", context, status=422)
        choose_organization(request, invitation.organization)
        messages.success(request, f"Welcome to {invitation.organization.name}.")
        return redirect("runs:home")
    return render(request, "entry/join.html", context)


@require_POST
def organization_switch(request: PageRequest) -> HttpResponse:
    """Work in another of one's organizations, in this browser."""
    memberships = request.access.user.memberships if request.access.user else None
    uid = request.POST.get("organization", "")
    chosen = (
        next(
            (
                m.organization
                for m in memberships.select_related("organization")
                if str(m.organization.uid) == uid
            ),
            None,
        )
        if memberships
        else None
    )
    if chosen is not None:
        choose_organization(request, chosen)
    return redirect("runs:home")
