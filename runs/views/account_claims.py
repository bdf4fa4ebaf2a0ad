"""Claiming: the installation with its one-time link, an account with the link of a mail."""

from django.contrib import messages
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from runs import account_claims
from teammates.errors import DomainError, NotSignedIn, TooMany
from teammates.forms.people import OwnPasswordForm, PasswordForm, SetupForm
from teammates.models import User
from teammates.people import setup as people_setup
from teammates.people import verification
from teammates.web.pages import add_refusal, public


@public
@require_http_methods(["GET", "POST"])
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """Claim the installation with the one-time link."""
    if people_setup.organization_of_setup_token(token) is None:
        messages.error(request, "This set-up link was used already. Sign in instead.")
        return redirect("teammates:sign_in")
    form = SetupForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            user = account_claims.set_up_owner(token=token, **form.cleaned_data)
        except DomainError as error:
            add_refusal(form, error)
        else:
            login(request, user, backend="django.contrib.auth.backends.ModelBackend")
            return redirect("runs:home")
    status = 422 if form.errors else 200
    return render(request, "entry/setup.html", {"form": form}, status=status)


@public
@require_http_methods(["GET", "POST"])
def verify(request: HttpRequest, token: str) -> HttpResponse:
    """Confirm a mail address, and claim an account that has no password yet."""
    user = verification.user_of_verification(token)
    is_claimed = user.has_usable_password()
    by = request.user if isinstance(request.user, User) else None
    form: PasswordForm | OwnPasswordForm | None = None
    if not is_claimed:
        form = PasswordForm(request.POST or None, user=user)
    elif by is None or by.pk != user.pk:
        form = OwnPasswordForm(request.POST or None)
    if request.method == "POST" and (form is None or form.is_valid()):
        try:
            verification.verify(
                user, by=by, password=form.cleaned_data["password"] if form else None
            )
        except (NotSignedIn, TooMany) as error:
            assert form is not None
            add_refusal(form, error)
        else:
            if form is not None:
                login(request, user, backend="django.contrib.auth.backends.ModelBackend")
            messages.success(request, "Thank you, your address is confirmed.")
            return redirect("runs:home")
    status = 422 if form and form.errors else 200
    context = {
        "form": form,
        "user": user,
        "is_claimed": is_claimed,
        "set_up": [] if is_claimed else account_claims.set_up_before_claim(user),
    }
    return render(request, "entry/verify.html", context, status=status)
