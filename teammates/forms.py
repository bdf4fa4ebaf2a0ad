"""Input of the pages about people, teammates and models."""

import json
import shlex
import zoneinfo
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError

from teammates import accounts
from teammates.errors import Invalid
from teammates.models import (
    AuthType,
    Effort,
    Model,
    Organization,
    PermissionMode,
    ProviderKind,
    ServerKind,
    Teammate,
    TeammateVersion,
    ToolMode,
    ToolServer,
)
from teammates.tools import GROUPS

SWITCHES = tuple(group.name for group in GROUPS.values() if group.configurable)


def _timezones() -> list[str]:
    """UTC and the names that people know: a region and a city."""
    regions = ("Africa", "America", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")
    known = zoneinfo.available_timezones()
    return ["UTC", *sorted(z for z in known if z.partition("/")[0] in regions and "/" in z)]


class PasswordForm(forms.Form):
    password = forms.CharField(
        label="Password",
        max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least 8 characters, and not a common one.",
    )

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        try:
            accounts.check_password(password)
        except Invalid as error:
            raise ValidationError(error.message.removeprefix("password: ")) from None
        return password


class SetupForm(PasswordForm):
    field_order = ("organization_name", "email", "password", "timezone")
    organization_name = forms.CharField(label="Organization", max_length=200)
    email = forms.EmailField(label="Your e-mail address", max_length=254)
    timezone = forms.ChoiceField(
        label="Timezone", choices=[(z, z) for z in _timezones()],
        initial="UTC",
    )  # fmt: skip


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

    apps = forms.MultipleChoiceField(
        label="Apps", required=False, widget=forms.CheckboxSelectMultiple,
        help_text="What it may use outside. Connect more under Settings, Apps.",
    )  # fmt: skip
    built_in = forms.MultipleChoiceField(
        label="Built-in tools", required=False, widget=forms.CheckboxSelectMultiple
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
        field.choices = [("", "The organization's default"), *shown]

    @staticmethod
    def now(version: TeammateVersion) -> dict[str, Any]:
        """What the form shows of a version."""
        off = set(version.disabled_tools)
        off |= {name for name in SWITCHES if getattr(version, name) is False}
        return {
            "apps": version.tools, "built_in": [name for name in GROUPS if name not in off],
        } | {
            name: getattr(version, name)
            for name in ("role", "instructions", "model", "effort", "permission_mode")
        }  # fmt: skip

    def changes(self, before: TeammateVersion | None = None) -> dict[str, Any]:
        """What was given, in the words of `roster`."""
        given = dict(self.cleaned_data)
        wanted = set(given.pop("built_in"))
        apps = given.pop("apps", None)
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


class ModelForm(forms.Form):
    fallback = forms.ModelChoiceField(queryset=Model.objects.none(), required=False)
    max_effort = forms.ChoiceField(choices=Effort.choices)
    context_window = forms.IntegerField(min_value=1_000, max_value=10_000_000)

    def __init__(self, organization: Organization, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["fallback"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = Model.objects.filter(organization=organization)


class ToolForm(forms.Form):
    mode = forms.ChoiceField(
        label="When it is called",
        choices=[
            (ToolMode.DEFAULT, "As declared: it asks where the run's mode says so"),
            (ToolMode.ASK, "Always ask: in every mode, whatever was allowed before"),
            (ToolMode.OFF, "Off: no teammate has it"),
        ],
        widget=forms.RadioSelect,
    )
    approvals = forms.TypedChoiceField(
        label="Who must agree", coerce=int, choices=[(1, "One person"), (2, "Two people")]
    )
    expires_after = forms.IntegerField(
        label="Minutes until it counts as denied", required=False, min_value=1,
        help_text="Empty: it waits as long as people need.",
    )  # fmt: skip


class PermissionForm(forms.Form):
    tool = forms.ChoiceField(label="Tool or app")
    argument = forms.CharField(
        label="Only if this argument", required=False, max_length=100,
        help_text="Empty: whatever the arguments are.",
    )  # fmt: skip
    text = forms.CharField(
        label="is", required=False, max_length=1000, help_text="* stands for any text: *@acme.com"
    )
    user_id = forms.CharField(label="Only for the end user", required=False, max_length=255)

    def __init__(self, choices: list[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["tool"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices

    @property
    def pattern(self) -> dict[str, str]:
        name = self.cleaned_data["argument"].strip()
        return {name: self.cleaned_data["text"]} if name else {}

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if bool(given.get("argument")) != bool(given.get("text")):
            raise ValidationError("Give both the argument and what it must be, or neither.")
        return given


class ServerForm(forms.Form):
    name = forms.CharField(label="Name", max_length=200)
    kind = forms.ChoiceField(label="Kind", choices=ServerKind.choices, initial="mcp_http")
    url = forms.CharField(label="Address", required=False, max_length=2000)
    command = forms.CharField(
        label="Program", required=False, max_length=2000,
        help_text="Only for programs on this machine: the command with its arguments.",
    )  # fmt: skip
    environment = forms.CharField(
        label="Environment of the program", required=False,
        widget=forms.Textarea(attrs={"rows": 2, "class": "mono", "placeholder": "NAME=value"}),
    )  # fmt: skip
    auth_type = forms.ChoiceField(label="Credential", choices=AuthType.choices)
    auth_name = forms.CharField(
        label="Name of the header or parameter", required=False, max_length=100
    )
    secret = forms.CharField(
        label="Key", required=False, max_length=5000,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Stored encrypted, never shown again.",
    )  # fmt: skip
    tool_defs = forms.CharField(
        label="Operations of the REST API", required=False,
        widget=forms.Textarea(attrs={"rows": 8, "class": "mono"}),
        help_text='JSON, such as [{"name": "find_invoices", "method": "GET", "path": "/invoices", '
        '"parameters": {"type": "object", "properties": {"customer": {"type": "string"}}}}]. '
        "Arguments of the path go there, others into the query, or into the body of a POST.",
    )  # fmt: skip
    description = forms.CharField(label="What it is for", required=False, max_length=1000)

    # The kinds that a field is for; the script hides it for the others.
    FOR: ClassVar = {
        "url": "rest_api mcp_http mcp_sse", "command": "mcp_stdio", "environment": "mcp_stdio",
        "auth_type": "rest_api mcp_http mcp_sse", "secret": "rest_api mcp_http mcp_sse",
        "auth_name": "rest_api mcp_http mcp_sse", "tool_defs": "rest_api",
    }  # fmt: skip

    def __init__(self, *args: Any, server: ToolServer | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._server = server
        for name, kinds in self.FOR.items():
            self.fields[name].widget.attrs["data-for"] = kinds
        if server is not None:
            self.fields["kind"].disabled = True
            stays = "Empty: the stored one stays."
            names = ", ".join(name for name, _ in server.connection.environment)
            self.fields["secret"].help_text = stays
            self.fields["environment"].help_text = f"{stays} It has {names}." if names else ""

    def clean_command(self) -> list[str]:
        try:
            return shlex.split(self.cleaned_data["command"])
        except ValueError as error:
            raise ValidationError(f"This is not a command line: {error}.") from None

    def clean_tool_defs(self) -> list[Any]:
        text = self.cleaned_data["tool_defs"].strip()
        if not text:
            return []
        try:
            given = json.loads(text)
        except ValueError as error:
            raise ValidationError(f"This is not JSON: {error}.") from None
        if not isinstance(given, list):
            raise ValidationError("This must be a list of operations.")
        return given

    @property
    def fields_of_server(self) -> dict[str, Any]:
        """What was given, in the words of `servers`."""
        given = dict(self.cleaned_data)
        name = given.pop("auth_name").strip()
        key = {"custom_header": "header_name", "api_key_in_url": "param_name"}
        given["auth_config"] = {key[given["auth_type"]]: name} if given["auth_type"] in key else {}
        for kept in ("secret", "environment"):  # never shown: left empty, it stays
            if not given[kept] and self._server is not None:
                del given[kept]
        return given


class MemoryForm(forms.Form):
    content = forms.CharField(label="Something to remember", max_length=300)


class SkillForm(forms.Form):
    name = forms.CharField(label="Name", max_length=200)
    description = forms.CharField(
        label="When to use it", max_length=1000,
        help_text="Teammates read this to decide whether they load it.",
    )  # fmt: skip
    body = forms.CharField(
        label="Instructions", max_length=50_000,
        widget=forms.Textarea(attrs={"rows": 12, "class": "mono"}),
    )  # fmt: skip
    teammate = forms.ChoiceField(label="For", required=False)
    is_active = forms.BooleanField(label="Teammates may load it", required=False, initial=True)

    def __init__(self, teammates: list[Teammate], *args: Any, is_new: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not is_new:
            del self.fields["teammate"]
            return
        del self.fields["is_active"]
        field = self.fields["teammate"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "All teammates"), *((t.pk, t.name) for t in teammates)]


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
