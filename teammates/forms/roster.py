"""Input of the pages about teammates."""

from typing import Any

from django import forms

from teammates.llm import sampling
from teammates.models import (
    Effort,
    Model,
    Organization,
    PermissionMode,
    TeammateVersion,
    ToolServer,
)
from teammates.tools import GROUPS
from teammates.types import JSON

SWITCHES = tuple(group.name for group in GROUPS.values() if group.configurable)


class TeammateForm(forms.Form):
    name = forms.CharField(label="Name", max_length=255)
    role = forms.CharField(
        label="Role", max_length=200, required=False, help_text="One line: what it is for."
    )
    goals = forms.CharField(
        label="Goals",
        max_length=20_000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="What good work of its looks like.",
    )
    instructions = forms.CharField(
        label="Instructions",
        max_length=100_000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 8, "class": "mono"}),
        help_text="What it should know and how it should work, in your own words.",
    )
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
    apps = forms.MultipleChoiceField(
        label="Apps",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="What it may use outside. Connect more under Settings, Apps.",
    )
    built_in = forms.MultipleChoiceField(
        label="Built-in tools", required=False, widget=forms.CheckboxSelectMultiple
    )

    folded_title = "How the model chooses its words"
    folded = ("temperature", "top_p", "stop", "seed", "service_tier")
    temperature = forms.FloatField(
        label="Temperature",
        required=False,
        min_value=0,
        max_value=2,
        widget=forms.NumberInput(attrs={"step": "0.1"}),
        help_text="0: the likeliest words; more: freer ones. What a model does not take is left "
        "out, here and below.",
    )
    top_p = forms.FloatField(
        label="Top-p",
        required=False,
        min_value=0,
        max_value=1,
        widget=forms.NumberInput(attrs={"step": "0.05"}),
        help_text="The share of likely words that it chooses from. Change this or the temperature.",
    )
    stop = forms.CharField(
        label="Stop at",
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 2, "class": "mono"}),
        help_text=f"Up to {sampling.MOST_STOPS} texts, one a line (\\n for the end of one): "
        "the answer ends before them.",
    )
    seed = forms.IntegerField(
        label="Seed",
        required=False,
        min_value=0,
        max_value=sampling.LARGEST_SEED,
        help_text="The same question is then answered much the same.",
    )
    service_tier = forms.ChoiceField(
        label="Service tier",
        required=False,
        choices=[
            ("", "The provider's own"),
            ("auto", "Auto"),
            ("default", "Standard"),
            ("flex", "Flex: slower and cheaper"),
            ("priority", "Priority: faster and dearer"),
        ],
        help_text="Costs are counted at the prices in Models & prices, whatever the tier.",
    )

    def __init__(self, organization: Organization, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        apps = self.fields["apps"]
        assert isinstance(apps, forms.MultipleChoiceField)
        connected = ToolServer.objects.filter(organization=organization).order_by("name")
        apps.choices = [(server.slug, server.name) for server in connected]
        if not apps.choices:
            del self.fields["apps"]
        built_in = self.fields["built_in"]
        assert isinstance(built_in, forms.MultipleChoiceField)
        built_in.choices = [
            (group.name, f"{group.title}: {group.description}")
            for group in GROUPS.values()
            if group.name != "demo"
        ]
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
        default = next((m.alias for m in models if m.is_default), "")
        field.choices = [("", f"The organization's default ({default})"), *shown]

    @property
    def is_unfolded(self) -> bool:
        """Whether there is something to see below."""
        return any(
            self[name].value() not in (None, "") or self[name].errors for name in self.folded
        )

    @staticmethod
    def now(version: TeammateVersion) -> JSON:
        """What the form shows of a version."""
        off = set(version.disabled_tools)
        off |= {name for name in SWITCHES if getattr(version, name) is False}
        return {
            "apps": version.tools,
            "built_in": [name for name in GROUPS if name not in off],
            **version.sampling,
            "stop": "\n".join(
                text.replace("\n", "\\n") for text in version.sampling.get("stop", [])
            ),
        } | {
            name: getattr(version, name)
            for name in ("role", "goals", "instructions", "model", "effort", "permission_mode")
        }

    def changes(self, before: TeammateVersion | None = None) -> JSON:
        """What was given, in the words of `roster`."""
        given = dict(self.cleaned_data)
        wanted = set(given.pop("built_in"))
        apps = given.pop("apps", None)
        given["sampling"] = {name: given.pop(name) for name in self.folded}
        stops = given["sampling"]["stop"].splitlines()
        given["sampling"]["stop"] = [text.replace("\\n", "\n") for text in stops if text]
        shown = {value for value, _ in self.fields["apps"].choices} if apps is not None else set()  # type: ignore[attr-defined]
        kept = [slug for slug in before.tools if slug not in shown] if before else []
        given["tools"] = kept + (apps or [])
        single = [name for name in before.disabled_tools if name not in GROUPS] if before else []
        given["disabled_tools"] = single + [
            name for name in GROUPS if name not in wanted and name not in (*SWITCHES, "demo")
        ]
        for name in SWITCHES:
            was = getattr(before, name) if before else None
            given[name] = (True if was else None) if name in wanted else False
        return given
