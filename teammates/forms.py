"""Input of the pages about people, teammates and models."""

import zoneinfo
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from teammates import accounts
from teammates.errors import Invalid
from teammates.models import Effort, Model, Organization, PermissionMode, ProviderKind


def _timezones() -> list[str]:
    """UTC and the names that people know: a region and a city."""
    regions = ("Africa", "America", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")
    known = zoneinfo.available_timezones()
    return ["UTC", *sorted(z for z in known if z.partition("/")[0] in regions and "/" in z)]


class SetupForm(forms.Form):
    organization_name = forms.CharField(label="Organization", max_length=200)
    email = forms.EmailField(label="Your e-mail address", max_length=254)
    password = forms.CharField(
        label="Password",
        max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least 8 characters, and not a common one.",
    )
    timezone = forms.ChoiceField(
        label="Timezone", choices=[(z, z) for z in _timezones()],
        initial="UTC",
    )  # fmt: skip

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        try:
            accounts.check_password(password)
        except Invalid as error:
            raise ValidationError(error.message.removeprefix("password: ")) from None
        return password


class SignInForm(forms.Form):
    email = forms.CharField(
        label="E-mail address", max_length=256,
        widget=forms.TextInput(attrs={"autocomplete": "username", "inputmode": "email"}),
    )  # fmt: skip
    password = forms.CharField(
        label="Password", max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )  # fmt: skip


class TeammateForm(forms.Form):
    name = forms.CharField(label="Name", max_length=255)
    role = forms.CharField(
        label="Role", max_length=200, required=False, help_text="One line: what it is for."
    )
    instructions = forms.CharField(
        label="Instructions", max_length=100_000, required=False,
        widget=forms.Textarea(attrs={"rows": 8, "class": "mono"}),
        help_text="What it should know and how it should work, in your own words.",
    )  # fmt: skip
    model = forms.ChoiceField(label="Model", required=False)
    effort = forms.ChoiceField(
        label="Effort", required=False, choices=[("", "The model's own"), *Effort.choices]
    )
    permission_mode = forms.ChoiceField(
        label="When it acts",
        choices=[
            (PermissionMode.AUTONOMOUS, "Autonomous: it works without asking"),
            (PermissionMode.APPROVAL, "Asks first: what changes something needs your approval"),
            (PermissionMode.PLAN, "Plans first: it proposes a plan, then asks"),
        ],
    )

    def __init__(self, organization: Organization, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        models = Model.objects.filter(organization=organization).by_priority()
        shown = [
            (
                m.alias,
                f"{m.alias} ({m.provider})" + ("" if m.provider.is_ready else ", needs a key"),
            )
            for m in models
        ]
        field = self.fields["model"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "The organization's default"), *shown]


class ProviderForm(forms.Form):
    kind = forms.ChoiceField(label="Provider", choices=ProviderKind.choices[1:])
    name = forms.CharField(label="Name", max_length=100)
    api_key = forms.CharField(
        label="API key", required=False, max_length=500,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Stored encrypted, never shown again. Local servers need none.",
    )  # fmt: skip
    base_url = forms.CharField(
        label="Address", required=False, max_length=500,
        help_text="Only for servers of your own, such as http://127.0.0.1:11434/v1.",
    )  # fmt: skip
    model = forms.CharField(
        label="First model", max_length=200, help_text="As the provider calls it."
    )


class KeyForm(forms.Form):
    api_key = forms.CharField(
        label="API key", max_length=500, widget=forms.PasswordInput(attrs={"autocomplete": "off"})
    )
