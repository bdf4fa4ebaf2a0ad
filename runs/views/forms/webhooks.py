"""Input of the pages about webhooks."""

from typing import Any

from django import forms
from django.conf import settings

from runs.models import Dialect
from runs.webhooks import endpoints, outbox
from teammates.types import Context

OFFERED = [event for event in outbox.EVENTS if event in outbox.EVENT_OF.values()]


class EndpointForm(forms.Form):
    url = forms.CharField(
        label="Address",
        max_length=2000,
        widget=forms.URLInput(attrs={"class": "mono"}),
    )
    description = forms.CharField(
        label="What it is for", max_length=endpoints.LONGEST_DESCRIPTION, required=False
    )
    events = forms.MultipleChoiceField(
        label="Events",
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one: else nothing is ever sent."},
        choices=[(e, e) for e in OFFERED],
    )
    dialect = forms.ChoiceField(
        label="Body and signature",
        choices=Dialect.choices,
        required=False,
        help_text="As the contract of that API says. It cannot be changed later.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["url"].help_text = (
            "http:// or https://, also on a private network (MUSTER_ALLOW_PRIVATE_ADDRESSES is on)."
            if settings.ALLOW_PRIVATE_ADDRESSES
            else "https:// and on the public internet."
        )

    def wanted(self) -> Context:
        """In the words of `webhooks`; what a program asked for and is not offered here stays."""
        others = [one for one in self.initial.get("events") or [] if one not in OFFERED]
        return self.cleaned_data | {"events": [*self.cleaned_data["events"], *others]}
