"""Input of the pages about people: set-up, sign-in, the organization."""

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError

from teammates.access import SCOPES
from teammates.errors import Invalid
from teammates.models import Organization, Role, User
from teammates.people import organizations, passwords
from teammates.web.timezones import TIMEZONES


class PasswordForm(forms.Form):
    password = forms.CharField(
        label="Password",
        max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least 10 characters, and not a common one.",
    )

    def __init__(self, *args: Any, user: User | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user  # whose password it is to be

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        try:
            passwords.check_password(password, self.user)
        except Invalid as error:
            raise ValidationError(error.message.removeprefix("password: ")) from None
        return password


class SetupForm(PasswordForm):
    field_order = ("organization_name", "email", "password", "timezone")
    organization_name = forms.CharField(label="Organization", max_length=200)
    email = forms.EmailField(label="Your e-mail address", max_length=254)
    timezone = forms.ChoiceField(
        label="Timezone",
        choices=[(z, z) for z in TIMEZONES],
        initial="UTC",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.is_bound:  # the browser knows it, until somebody chose another
            self.fields["timezone"].widget.attrs["data-guess-timezone"] = ""


class SignInForm(forms.Form):
    email = forms.CharField(
        label="E-mail address",
        max_length=256,
        widget=forms.TextInput(attrs={"autocomplete": "username", "inputmode": "email"}),
    )
    password = forms.CharField(
        label="Password",
        max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


class OwnPasswordForm(forms.Form):
    """The password that somebody has, to show that they are the one."""

    password = forms.CharField(
        label="Your password",
        max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


class AddressForm(forms.Form):
    email = forms.EmailField(
        label="Your e-mail address",
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "username"}),
    )


class NameForm(forms.Form):
    name = forms.CharField(
        label="Your name",
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )


class ChangePasswordForm(forms.Form):
    current = forms.CharField(
        label="Password of now",
        max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    new = forms.CharField(
        label="New password",
        max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least 10 characters, and not a common one.",
    )


class OrganizationForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in stubs alone
    timezone = forms.ChoiceField(
        label="Timezone",
        choices=[(z, z) for z in TIMEZONES],
        help_text="Times on pages are this place's; usage is counted in days of UTC.",
    )

    class Meta:
        model = Organization
        fields = (
            "name",
            "timezone",
            "approval_email_enabled",
            "result_email_enabled",
            "retention_mode",
            "require_end_user_id",
            "per_end_user_run_limit",
            "per_end_user_cost_limit_cents",
            "per_end_user_rate_per_minute",
        )
        labels: ClassVar = {
            "name": "Name",
            "approval_email_enabled": "Mail whoever started a run when it waits for a decision",
            "result_email_enabled": "Mail the result of a run that asked for it",
            "retention_mode": "What is kept of a run that is over",
            "require_end_user_id": "Strict mode: every API call must name an end user",
            "per_end_user_run_limit": "Runs a month",
            "per_end_user_cost_limit_cents": "Cents a month",
            "per_end_user_rate_per_minute": "Runs a minute",
        }
        help_texts: ClassVar = {
            "retention_mode": "Numbers alone: what was said is erased two minutes after a run "
            "ends, from when you save this on. What was said before stays.",
            "require_end_user_id": "For products with customers of their own: a key names a "
            "customer whenever it lists, finds or makes something, and /v1, which knows none, is "
            "closed to keys. What it does next with a run that it found is not asked again.",
            "per_end_user_run_limit": "Empty: no limit.",
            "per_end_user_cost_limit_cents": "Empty: no limit.",
            "per_end_user_rate_per_minute": "Empty: no limit.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in organizations.PER_END_USER:
            self.fields[name].required = False


class NewKeyForm(forms.Form):
    name = forms.CharField(
        label="What is it for?",
        max_length=200,
        widget=forms.TextInput(attrs={"placeholder": "Nightly import", "autocomplete": "off"}),
    )
    expires_in_days = forms.TypedChoiceField(
        label="Works for",
        coerce=int,
        empty_value=None,
        required=False,
        initial="90",
        choices=[("30", "30 days"), ("90", "90 days"), ("365", "a year"), ("", "ever")],
    )
    scopes = forms.MultipleChoiceField(
        label="May do only this",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        choices=[(name, name.removeprefix("data.")) for name in SCOPES],
        help_text="Nothing chosen: all that you may do.",
    )


class InvitationForm(forms.Form):
    email = forms.EmailField(
        label="E-mail address",
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "off", "autofocus": True}),
    )
    role = forms.ChoiceField(label="Role", choices=Role.choices, initial=Role.MEMBER)


class JoinForm(PasswordForm):
    field_order = ("name", "password")
    name = forms.CharField(
        label="Your name", max_length=150, widget=forms.TextInput(attrs={"autocomplete": "name"})
    )


class EndUserForm(forms.Form):
    name = forms.CharField(label="Name", max_length=255, required=False)
    email = forms.CharField(label="E-mail address", max_length=254, required=False)
    company = forms.CharField(label="Company", max_length=255, required=False)
    run_limit = forms.IntegerField(
        label="Runs a month",
        required=False,
        min_value=0,
        help_text="Empty: as for everybody. 0: blocked.",
    )
    cost_limit_cents = forms.IntegerField(label="Cents a month", required=False, min_value=0)
    rate_per_minute = forms.IntegerField(label="Runs a minute", required=False, min_value=1)
