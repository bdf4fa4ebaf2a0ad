"""Where tools from outside come from: MCP servers and REST APIs with a stored credential."""

from typing import ClassVar, Self

from django.conf import settings
from django.db import models

from teammates import programs
from teammates.fields import EncryptedField, Identified
from teammates.models.people import EndUser, Membership, Organization, Role, User
from teammates.models.scoped import ScopedQuerySet
from teammates.tools.servers import Operation, ServerConnection


class ServerKind(models.TextChoices):
    REST_API = "rest_api", "REST API"
    MCP_HTTP = "mcp_http", "MCP over HTTP"
    MCP_SSE = "mcp_sse", "MCP over server-sent events"
    MCP_STDIO = "mcp_stdio", "MCP program on this machine"


class AuthType(models.TextChoices):
    NONE = "none", "None"
    BEARER = "bearer", "Bearer token"
    CUSTOM_HEADER = "custom_header", "A header of its own"
    API_KEY_IN_URL = "api_key_in_url", "A query parameter"
    OAUTH_TOKEN = "oauth_token", "OAuth access token"


class ServerStatus(models.TextChoices):
    ACTIVE = "active", "Ready"
    FAILING = "failing", "Failing"
    DISABLED = "disabled", "Off"


class UsedBy(models.TextChoices):
    ADMINS = "admins", "Owners, admins and whoever added it"
    MEMBERS = "members", "Everybody who may start runs"


class ToolServerQuerySet(ScopedQuerySet):
    def with_use(self, user: int | None, teammate_id: int) -> Self:
        """Each with `may_be_used`: by this user, or, None, by the organization's own keys, through
        this teammate."""
        people = self.model.used_by_people.through._default_manager.filter(
            toolserver=models.OuterRef("pk"), user=user
        )
        admins = Membership.objects.filter(
            organization=models.OuterRef("organization"),
            user=user,
            role__in=[Role.OWNER, Role.ADMIN],
        )
        teammates = self.model.used_by_teammates.through._default_manager.filter(
            toolserver=models.OuterRef("pk")
        )
        is_theirs = models.Q(used_by=UsedBy.MEMBERS) | models.Q(created_by=user)
        is_theirs |= models.Q(models.Exists(people)) | models.Q(models.Exists(admins))
        if user is None:
            is_theirs = models.Q(pk__isnull=False)
        is_teammates = ~models.Q(models.Exists(teammates)) | models.Q(
            models.Exists(teammates.filter(teammate=teammate_id))
        )
        return self.annotate(
            may_be_used=models.ExpressionWrapper(
                is_theirs & is_teammates, output_field=models.BooleanField()
            )
        )


class ToolServer(Identified):
    """A server whose tools teammates use that name its slug among their `tools`."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="tool_servers"
    )
    end_user = models.ForeignKey(
        EndUser, null=True, on_delete=models.CASCADE, related_name="tool_servers"
    )
    slug = models.CharField(max_length=40)  # stays when the name changes
    name = models.CharField(max_length=200)
    description = models.CharField(max_length=1000, blank=True, default="")
    app = models.CharField(max_length=40, blank=True, default="")  # of the catalog, if it is one
    kind = models.CharField(max_length=9, choices=ServerKind.choices)
    url = models.CharField(max_length=2000, blank=True, default="")
    command = models.JSONField(default=list)  # program and arguments (stdio)
    environment = EncryptedField(blank=True, default="")  # NAME=value lines (stdio)
    auth_type = models.CharField(max_length=14, choices=AuthType.choices, default=AuthType.NONE)
    auth_config = models.JSONField(default=dict)
    secret = EncryptedField(blank=True, default="")
    may_be_private = models.BooleanField(default=False)  # else only public addresses are called
    auto_approve = models.BooleanField(default=False)  # trusted: asks only where the mode does
    operations = models.JSONField(default=list)  # tools.servers.Operation, as it was last told
    status = models.CharField(
        max_length=8, choices=ServerStatus.choices, default=ServerStatus.ACTIVE
    )
    status_reason = models.CharField(max_length=500, blank=True, default="")
    checked_at = models.DateTimeField(null=True)
    check_due_at = models.DateTimeField(null=True)  # somebody wants to know (`checks.py`)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    # Whose runs get its tools, with the organization's credential; these people besides, and, if
    # there are any, only runs of these teammates.
    used_by = models.CharField(max_length=7, choices=UsedBy.choices, default=UsedBy.ADMINS)
    used_by_people = models.ManyToManyField(User, related_name="+")
    used_by_teammates = models.ManyToManyField("teammates.Teammate", related_name="+")

    objects = ToolServerQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "organization",
                "end_user",
                "slug",
                name="tool_server_slug_once",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                condition=models.Q(kind__in=ServerKind.values), name="tool_server_kind_known"
            ),
            models.CheckConstraint(
                condition=models.Q(auth_type__in=AuthType.values), name="tool_server_auth_known"
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=ServerStatus.values),
                name="tool_server_status_known",
            ),
            models.CheckConstraint(
                condition=models.Q(used_by__in=UsedBy.values), name="tool_server_used_by_known"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["check_due_at"],
                name="tool_server_check_due",
                condition=models.Q(check_due_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_failing(self) -> bool:
        return self.status == ServerStatus.FAILING

    @property
    def described(self) -> list[Operation]:
        return [Operation.from_json(one) for one in self.operations]

    @property
    def connection(self) -> ServerConnection:
        """What it takes to call the server, without the database."""
        is_program = self.kind == ServerKind.MCP_STDIO
        refused = programs.refusal(self.command) if is_program else ""
        lines = [line.partition("=") for line in self.environment.splitlines() if "=" in line]
        return ServerConnection(
            kind=self.kind,
            url=self.url,
            command=programs.guarded(self.command) if is_program and not refused else (),
            refused=refused,
            environment=tuple((name.strip(), value) for name, _, value in lines),
            auth_type=self.auth_type,
            auth_name=str(
                self.auth_config.get("header_name") or self.auth_config.get("param_name") or ""
            ),
            secret=self.secret,
            may_be_private=self.may_be_private or settings.ALLOW_PRIVATE_ADDRESSES,
            owner=self.pk or 0,
        )
