"""Input of the pages about models and their providers."""

from typing import Any

from django import forms

from teammates.forms.fields import SecretField
from teammates.models import Effort, Model, Organization
from teammates.providers.kinds import KINDS


class ModelForm(forms.Form):
    fallback = forms.ModelChoiceField(queryset=Model.objects.none(), required=False)
    max_effort = forms.ChoiceField(choices=Effort.choices)
    context_window = forms.IntegerField(min_value=1_000, max_value=10_000_000)
    max_output_tokens = forms.IntegerField(min_value=1, max_value=1_000_000, required=False)

    def __init__(self, organization: Organization, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["fallback"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = Model.objects.filter(organization=organization)


class ProviderForm(forms.Form):
    kind = forms.ChoiceField(
        label="Provider", choices=[(name, kind.label) for name, kind in KINDS.items()][1:]
    )
    name = forms.CharField(label="Name", max_length=100)
    api_key = SecretField(
        label="API key",
        required=False,
        max_length=500,
        help_text="Stored encrypted, never shown again. Local servers need none.",
    )
    base_url = forms.CharField(
        label="Address",
        required=False,
        max_length=500,
        help_text="Only for servers of your own, such as http://127.0.0.1:11434/v1, for Azure: "
        "https://NAME.openai.azure.com/openai/v1, and for Amazon Bedrock: "
        "https://bedrock-mantle.REGION.api.aws/v1.",
    )
    model = forms.CharField(
        label="First model",
        max_length=200,
        help_text="As the provider calls it: once there is a key or an address, its models are "
        "listed here.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class KeyForm(forms.Form):
    api_key = SecretField(label="API key", max_length=500)
