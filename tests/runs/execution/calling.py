"""What the tests of execution share."""

from typing import Any

from django.db import transaction

from runs.creation.options import Options
from runs.gates import decisions
from runs.models import Gate, Run, RunStatus, ToolCall
from runs.tools import builtin
from teammates.access import Access
from teammates.integrations import servers
from teammates.models import ToolServer
from tests.factories import make_run
from tests.fake_servers import OPERATIONS, FakeShop, program
from tests.runs.execution.working import types, work_until

ORDER = 'use shop__create_order {"item": "tea"}'


def add_shop(access: Access, shop: FakeShop, **fields: Any) -> ToolServer:
    return servers.add_server(
        access,
        servers.NewServer(
            name="Shop",
            url=shop.url,
            tool_defs=OPERATIONS,
            auth_type="bearer",
            secret="shop-secret-12345",
            may_be_private=True,
            **fields,
        ),
    )


def add_program(access: Access, *arguments: str, **fields: Any) -> ToolServer:
    return servers.add_server(
        access,
        servers.NewServer(name="Weather", kind="mcp_stdio", command=program(*arguments), **fields),
    )


def run_with(access: Access, message: str, **options: Any) -> Run:
    attached = list(ToolServer.objects.values_list("slug", flat=True))
    return make_run(access, message=message, options=Options(tools=attached, **options))


def wait(run: Run) -> Gate:
    """Work until the run waits, and return its gate."""
    work_until(lambda: Run.objects.get(pk=run.pk).status in (RunStatus.WAITING, "completed"))
    run.refresh_from_db()
    gate = decisions.pending_gate(run)
    assert gate is not None, types(run)
    return gate


def call_of(run: Run, name: str) -> ToolCall:
    return ToolCall.objects.get(run=run, name=name)


def perform(run: Run, call: ToolCall, name: str, arguments: Any) -> Any:
    with transaction.atomic():
        return builtin.perform(run, call, name, arguments)


SCHEMA = {
    "type": "object",
    "required": ["total", "items"],
    "additionalProperties": False,
    "properties": {
        "total": {"type": "integer", "minimum": 3},
        "items": {"type": "array", "minItems": 2, "items": {"type": "string"}},
    },
}
