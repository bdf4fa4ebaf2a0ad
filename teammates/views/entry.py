"""Set-up and sign-in."""

from django.contrib import messages
from django.contrib.auth import login, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST

from teammates import accounts
from teammates.errors import DomainError, NotSignedIn, TooMany
from teammates.forms.people import PasswordForm, SetupForm, SignInForm
from teammates.pages import add_refusal, public


@public
@require_http_methods(["GET", "POST"])
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """Claim the installation with the one-time link."""
    if accounts.organization_of_setup_token(token) is None:
        messages.error(request, "This set-up link was used already. Sign in instead.")
        return redirect("teammates:sign_in")
    form = SetupForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            user = accounts.set_up_owner(token=token, **form.cleaned_data)
        except DomainError as error:
            add_refusal(form, error)
        else:
            login(request, user, backend="django.contrib.auth.backends.ModelBackend")
            return redirect("runs:home")
    status = 422 if form.errors else 200
    return render(request, "teammates/setup.html", {"form": form}, status=status)


@public
@require_http_methods(["GET", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    form = SignInForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            access = accounts.sign_in(
                login=form.cleaned_data["email"], password=form.cleaned_data["password"]
            )
        except (NotSignedIn, TooMany) as error:
            add_refusal(form, error)
        else:
            assert access.user is not None
            login(request, access.user, backend="django.contrib.auth.backends.ModelBackend")
            target = request.GET.get("next", "")
            is_ours = url_has_allowed_host_and_scheme(target, {request.get_host()})
            return redirect(target if is_ours else "runs:home")
    status = 422 if form.errors else 200
    return render(request, "teammates/sign_in.html", {"form": form}, status=status)


@public
@require_http_methods(["GET", "POST"])
def verify(request: HttpRequest, token: str) -> HttpResponse:
    """Confirm a mail address, and claim an account that has no password yet."""
    user = accounts.user_of_verification(token)
    form = None if user.has_usable_password() else PasswordForm(request.POST or None)
    if request.method == "POST" and (form is None or form.is_valid()):
        accounts.verify(user, password=form.cleaned_data["password"] if form else None)
        if form is not None:  # a link alone signs nobody in who has a password
            login(request, user, backend="django.contrib.auth.backends.ModelBackend")
        messages.success(request, "Thank you, your address is confirmed.")
        return redirect("runs:home")
    status = 422 if form and form.errors else 200
    context = {"form": form, "user": user}
    return render(request, "teammates/verify.html", context, status=status)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("teammates:sign_in")
