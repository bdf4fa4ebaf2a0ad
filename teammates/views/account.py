"""One's own account: name and password."""

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from teammates.errors import DomainError
from teammates.forms.people import ChangePasswordForm, NameForm
from teammates.people import passwords, users
from teammates.web.pages import PageRequest, add_refusal


@require_http_methods(["GET", "POST"])
def account(request: PageRequest) -> HttpResponse:
    """Two forms; a new password ends the sessions of all other browsers."""
    user = request.access.user
    assert user is not None
    asked = request.POST.get("form", "")
    name = NameForm(request.POST if asked == "name" else None, initial={"name": user.name})
    password = ChangePasswordForm(request.POST if asked == "password" else None)
    form = {"name": name, "password": password}.get(asked)
    if form is not None and form.is_valid():
        try:
            if form is name:
                users.rename_user(request.access, form.cleaned_data["name"])
                messages.success(request, "Your name is saved.")
            else:
                changed = passwords.change_password(request.access, **form.cleaned_data)
                update_session_auth_hash(request, changed)
                messages.success(
                    request, "Your password is changed; other browsers are signed out."
                )
            return redirect("teammates:account")
        except DomainError as error:
            add_refusal(form, error)
    status = 422 if name.errors or password.errors else 200
    context = {"name": name, "password": password}
    return render(request, "settings/account.html", context, status=status)
