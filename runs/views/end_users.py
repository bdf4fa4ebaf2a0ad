"""End users: the organization's own customers, what they used and what they may."""

from django.contrib import messages
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from runs.models import Run
from runs.retention import erased_end_users
from runs.usage import limits, totals
from teammates.errors import DomainError, NotFound
from teammates.forms.people import EndUserForm
from teammates.models import EndUser, Memory, PermissionPolicy
from teammates.people import end_users
from teammates.types import Context
from teammates.web.pages import PageRequest, add_refusal, page_of

PAGE_SIZE = 50


@require_GET
def end_user_list(request: PageRequest) -> HttpResponse:
    """Those with a profile, newest first, with what they used this month."""
    access = request.access
    sought = request.GET.get("q", "").strip()[:200]
    rows = end_users.list_end_users(access)
    if sought:
        rows = rows.filter(
            Q(external_id__icontains=sought)
            | Q(name__icontains=sought)
            | Q(company__icontains=sought)
            | Q(email__icontains=sought)
        )
    page = page_of(request, rows.select_related("organization"), "-id", size=PAGE_SIZE)
    sums = totals.by_end_user(access, page.rows)
    return render(
        request,
        "end_users/end_user_list.html",
        {
            "rows": [(one, sums.get(one.pk), limits.limits_of(one)) for one in page.rows],
            "sought": sought,
            "page": page,
            "is_strict": access.organization.require_end_user_id,
        },
    )


@require_http_methods(["GET", "POST"])
def end_user_detail(request: PageRequest, end_user_id: int) -> HttpResponse:
    access = request.access
    end_user = _find(request, end_user_id)
    now = {name: getattr(end_user, name) for name in EndUserForm.base_fields}
    form = EndUserForm(request.POST or None, initial=now)
    if request.method == "POST" and form.is_valid():
        try:
            end_users.update_end_user(access, end_user, **form.cleaned_data)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, "Saved.")
            return redirect("runs:end_user_detail", end_user.pk)
    scope = {"organization": access.organization, "end_user": end_user}
    context: Context = {
        "end_user": end_user,
        "form": form,
        "limits": limits.limits_of(end_user),
        "sums": totals.by_end_user(access, [end_user]).get(end_user.pk),
        "runs": Run.objects.filter(**scope).for_list().newest_first()[:10],
        "memories": Memory.objects.filter(**scope).order_by("-id")[:50],
        "policies": PermissionPolicy.objects.filter(**scope).order_by("-id")[:50],
    }
    return render(
        request, "end_users/end_user_detail.html", context, status=422 if form.errors else 200
    )


@require_POST
def end_user_remove(request: PageRequest, end_user_id: int) -> HttpResponse:
    """Forget who an end user is."""
    access = request.access
    end_user = _find(request, end_user_id)
    end_users.remove_profile(access, end_user)
    messages.success(request, f"The profile of {end_user.external_id} is deleted. Runs stay.")
    return redirect("runs:end_user_list")


@require_POST
def end_user_erase(request: PageRequest, end_user_id: int) -> HttpResponse:
    """Erase all that an end user said, and what is known of them."""
    end_user = _find(request, end_user_id)
    erased_end_users.erase_end_user(request.access, end_user)
    messages.success(request, f"What {end_user.external_id} said is erased within minutes.")
    return redirect("runs:end_user_list")


def _find(request: PageRequest, end_user_id: int) -> EndUser:
    found: EndUser | None = (
        end_users.known(request.access)
        .select_related("organization")
        .filter(pk=end_user_id)
        .first()
    )
    if found is None:
        raise NotFound("There is no such end user.", code="users.not_found")
    return found
