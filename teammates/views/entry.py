"""Set-up and sign-in."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST

from teammates.errors import NotSignedIn, TooMany
from teammates.forms.people import AddressForm, PasswordForm, SignInForm
from teammates.models import User
from teammates.people import account_mail, passwords
from teammates.people import setup as people_setup
from teammates.people import sign_in as people_sign_in
from teammates.web.pages import add_refusal, public

KNOWN = "muster_known"  # the cookie of a browser that signed somebody in


@public
@require_http_methods(["GET", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    form = SignInForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            access = people_sign_in.sign_in(
                login=form.cleaned_data["email"],
                password=form.cleaned_data["password"],
                known_browser=request.get_signed_cookie(KNOWN, "", salt=KNOWN) or "",
            )
        except (NotSignedIn, TooMany) as error:
            add_refusal(form, error)
        else:
            assert access.user is not None
            login(request, access.user, backend="django.contrib.auth.backends.ModelBackend")
            target = request.GET.get("next", "")
            is_ours = url_has_allowed_host_and_scheme(target, {request.get_host()})
            return _known(redirect(target if is_ours else "runs:home"), access.user)
    status = 422 if form.errors else 200
    context = {"form": form, "is_set_up": people_setup.is_set_up()}
    return render(request, "entry/sign_in.html", context, status=status)


def _known(response: HttpResponse, user: User) -> HttpResponse:
    """This browser signed `user` in: strangers' wrong passwords do not keep it out."""
    response.set_signed_cookie(
        KNOWN,
        people_sign_in.browser_of(user),
        salt=KNOWN,
        max_age=365 * 24 * 3600,
        httponly=True,
        samesite="Lax",
        secure=settings.HTTPS,
        path=reverse("teammates:sign_in"),
    )
    return response


@public
@require_http_methods(["GET", "POST"])
def forgot(request: HttpRequest) -> HttpResponse:
    """Ask for a link that sets a new password. The answer is the same for every address."""
    form = AddressForm(request.POST or None)
    asked = ""
    if request.method == "POST" and form.is_valid():
        try:
            passwords.ask_for_reset(form.cleaned_data["email"])
            asked = form.cleaned_data["email"]
        except TooMany as error:
            add_refusal(form, error)
    status = 422 if form.errors else 200
    context = {"form": form, "asked": asked, "sends": account_mail.sends()}
    return render(request, "entry/forgot.html", context, status=status)


@public
@require_http_methods(["GET", "POST"])
def reset(request: HttpRequest, token: str) -> HttpResponse:
    """Set a new password by the link of a mail."""
    user = passwords.user_of_reset(token)
    form = PasswordForm(request.POST or None, user=user)
    if request.method == "POST" and form.is_valid():
        passwords.reset_password(token, form.cleaned_data["password"])
        messages.success(request, "Your new password is set. Sign in with it.")
        return redirect("teammates:sign_in")
    status = 422 if form.errors else 200
    return render(request, "entry/reset.html", {"form": form, "user": user}, status=status)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("teammates:sign_in")
