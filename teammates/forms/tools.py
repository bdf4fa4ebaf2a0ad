"""Input of the pages about tools, apps and permissions."""

import shlex
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError

from teammates.forms.fields import SecretField
from teammates.models import (
    AuthType,
    Role,
    ServerKind,
    Teammate,
    ToolMode,
    ToolServer,
    UsedBy,
    User,
)
from teammates.text import read_json
from teammates.tools.search import ENGINES
from teammates.types import JSON


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
        label="Who must agree",
        coerce=int,
        choices=[(1, "One person"), (2, "Two people who did not start the run")],
    )
    expires_after = forms.IntegerField(
        label="Minutes until it counts as denied",
        required=False,
        min_value=1,
        help_text="Empty: it waits as long as people need.",
    )


class UsersForm(forms.Form):
    """Who may use an app."""

    used_by = forms.ChoiceField(
        label="Whose runs get its tools",
        choices=UsedBy.choices,
        widget=forms.RadioSelect,
        help_text="They also approve what their own runs want to do with it, unless two people "
        "must agree to a tool.",
    )
    people = forms.ModelMultipleChoiceField(
        label="And these people",
        queryset=User.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    teammates = forms.ModelMultipleChoiceField(
        label="Only through these teammates",
        queryset=Teammate.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None: through all of them.",
    )

    def __init__(self, server: ToolServer, *args: Any, **kwargs: Any) -> None:
        kwargs["initial"] = {
            "used_by": server.used_by,
            "people": server.used_by_people.all(),
            "teammates": server.used_by_teammates.all(),
        }
        super().__init__(*args, **kwargs)
        here = server.organization
        others = {Role.MEMBER, Role.ADMIN, Role.OWNER}
        self._choose(
            "people",
            User.objects.filter(
                memberships__organization=here, memberships__role__in=others, is_active=True
            ).order_by("id"),
        )
        self._choose("teammates", Teammate.objects.current().filter(organization=here))

    def _choose(self, name: str, rows: Any) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ModelMultipleChoiceField)
        field.queryset = rows


class PermissionForm(forms.Form):
    tool = forms.ChoiceField(label="Tool or app")
    argument = forms.CharField(
        label="Only if this argument",
        required=False,
        max_length=100,
        help_text="Empty: whatever the arguments are.",
    )
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

    def clean(self) -> JSON:
        given = super().clean() or {}
        if bool(given.get("argument")) != bool(given.get("text")):
            raise ValidationError("Give both the argument and what it must be, or neither.")
        return given


class ServerForm(forms.Form):
    name = forms.CharField(label="Name", max_length=200)
    kind = forms.ChoiceField(label="Kind", choices=ServerKind.choices, initial="mcp_http")
    url = forms.CharField(label="Address", required=False, max_length=2000)
    command = forms.CharField(
        label="Program",
        required=False,
        max_length=2000,
        help_text="Only for programs on this machine: the command with its arguments.",
    )
    environment = forms.CharField(
        label="Environment of the program",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "class": "mono", "placeholder": "NAME=value"}),
    )
    auth_type = forms.TypedChoiceField(
        label="Credential", choices=AuthType.choices, required=False, empty_value=AuthType.NONE
    )
    auth_name = forms.CharField(
        label="Name of the header or parameter", required=False, max_length=100
    )
    secret = SecretField(
        label="Key",
        required=False,
        max_length=5000,
        help_text="Stored encrypted, never shown again.",
    )
    tool_defs = forms.CharField(
        label="Operations of the REST API",
        required=False,
        widget=forms.Textarea(attrs={"rows": 8, "class": "mono"}),
        help_text='JSON, such as [{"name": "find_invoices", "method": "GET", "path": "/invoices", '
        '"parameters": {"type": "object", "properties": {"customer": {"type": "string"}}}}]. '
        "Arguments of the path go there, others into the query, or into the body of a POST.",
    )
    description = forms.CharField(label="What it is for", required=False, max_length=1000)

    # The kinds that a field is for; for the others the script hides it, and it is not sent.
    FOR: ClassVar = {
        "url": "rest_api mcp_http mcp_sse",
        "command": "mcp_stdio",
        "environment": "mcp_stdio",
        "auth_type": "rest_api mcp_http mcp_sse",
        "secret": "rest_api mcp_http mcp_sse",
        "auth_name": "rest_api mcp_http mcp_sse",
        "tool_defs": "rest_api",
    }

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
            given = read_json(text)
        except ValueError as error:
            raise ValidationError(f"This is not JSON: {error}.") from None
        if not isinstance(given, list):
            raise ValidationError("This must be a list of operations.")
        return given

    @property
    def fields_of_server(self) -> JSON:
        """What was given, in the words of `servers`."""
        given = dict(self.cleaned_data)
        name = given.pop("auth_name").strip()
        key = {"custom_header": "header_name", "api_key_in_url": "param_name"}
        given["auth_config"] = {key[given["auth_type"]]: name} if given["auth_type"] in key else {}
        for kept in ("secret", "environment"):  # never shown: left empty, it stays
            if not given[kept] and self._server is not None:
                del given[kept]
        return given


class SearchForm(forms.Form):
    kind = forms.ChoiceField(
        label="Engine", choices=[(name, engine.label) for name, engine in ENGINES.items()]
    )
    api_key = SecretField(
        label="API key",
        required=False,
        max_length=500,
        help_text="Stored encrypted, never shown again. Empty: the one that is there stays.",
    )
    address = forms.CharField(
        label="Address",
        required=False,
        max_length=500,
        help_text="Only for a SearXNG of your own, which must give out JSON.",
    )
