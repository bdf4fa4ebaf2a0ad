"""Rows for tests, made by the real verbs. Alice (owner), Bob (member), Eve (elsewhere)."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.test import Client
from django.utils import timezone

from runs.creation import conversation
from runs.events.payloads import NewEvent
from runs.gates import decisions, opening
from runs.lifecycle import endings, leases
from runs.lifecycle.endings import Outcome
from runs.lifecycle.transitions import Lease
from runs.models import Channel, Gate, GateKind, Run, RunStatus, Step, StepKind, ToolCall
from teammates.access import Access, access_of_member
from teammates.integrations import discovery
from teammates.integrations.discovery import ServerCheck
from teammates.models import Membership, Organization, Role, Teammate, ToolServer, ToolSetting, User
from teammates.people import api_keys, sign_in, verification
from teammates.tools.ask import ASK_USER
from teammates.tools.base import Tool
from teammates.tools.pretend import PRETEND_SEND
from teammates.tools.servers import close_sessions
from threads import conversations
from threads.models import Thread

PASSWORD = "correct horse battery"


def make_alice(email: str = "alice@example.com") -> Access:
    """The owner of an organization of her own."""
    name = email.partition("@")[0].title()
    access = sign_in.register(email=email, password=PASSWORD, name=name)
    assert access.user is not None
    verification.verify(access.user, by=access.user)
    return access


def make_bob(alice: Access, *, role: str = Role.MEMBER, email: str = "bob@example.com") -> Access:
    """A member of Alice's organization."""
    user = User.objects.create_user(
        email=email, password=PASSWORD, name="Bob", email_verified_at=timezone.now()
    )
    Membership.objects.create(organization=alice.organization, user=user, role=role)
    access = access_of_member(user)
    assert access is not None
    return access


def make_eve() -> Access:
    """The owner of another organization."""
    return make_alice("eve@example.com")


def make_key(access: Access) -> str:
    return api_keys.create_key(access, name="test")[1]


def with_key(access: Access) -> Access:
    return api_keys.access_of_bearer(make_key(access))


def browser_of(access: Access) -> Client:
    """A browser in which somebody is signed in."""
    assert access.user is not None
    browser = Client()
    browser.force_login(access.user)
    return browser


def make_thread(access: Access, **fields: Any) -> Thread:
    return conversations.create_thread(access, **{"end_user": access.end_user} | fields)


def make_run(
    access: Access,
    *,
    message: str | None = "plain words",
    thread: Thread | None = None,
    status: str = RunStatus.QUEUED,
    **fields: Any,
) -> Run:
    """A run, brought to `status` by the real verbs."""
    run = conversation.run_in_thread(
        access,
        thread or make_thread(access),
        message=message,
        **{"channel": Channel.APP} | fields,
    )
    return bring_to(run, status)


def bring_to(run: Run, status: str) -> Run:
    if status == RunStatus.QUEUED:
        return run
    if status == RunStatus.CANCELLED:
        return endings.cancel_run(run)
    lease = claim(run)
    if status != RunStatus.RUNNING:
        failed = status == RunStatus.FAILED
        outcome = Outcome(
            RunStatus(status),
            text="An answer.",
            error_class="provider.rejected" if failed else "",
            error_message="It was refused." if failed else "",
        )
        endings.finish_run(lease, [], outcome)
    run.refresh_from_db()
    return run


def claim(run: Run) -> Lease:
    """Claim this run, whatever else is queued."""
    others = Run.objects.filter(status=RunStatus.QUEUED).exclude(pk=run.pk)
    held_back = list(others.values_list("pk", "available_at"))
    others.update(available_at=timezone.now() + timedelta(days=1))
    claimed = leases.claim_runs(worker="test", limit=10)
    for pk, at in held_back:
        Run.objects.filter(pk=pk).update(available_at=at)
    (lease,) = [lease for lease in claimed if lease.run_id == run.pk]
    return lease


LETTER = {"to": "kim@example.com", "text": "The report is ready."}
QUESTION = {
    "questions": [
        {
            "question": "How long?",
            "header": "Length",
            "options": [{"label": "Short"}, {"label": "Long"}],
        }
    ]
}


def make_call(
    run: Run, tool: Tool, arguments: dict[str, Any], *, number: int = 0
) -> tuple[Lease, ToolCall]:
    """The run claimed, with an open call as a model asked for it."""
    lease = claim(run)
    run.refresh_from_db()
    step = Step.objects.create(
        run=run,
        number=run.steps.count() + 1,
        kind=StepKind.TOOLS,
        attempt=lease.attempt,
        first_seq=run.last_seq + 1,
        started_at=timezone.now(),
    )
    call = ToolCall.objects.create(
        run=run,
        step=step,
        number=number,
        call_id=f"call_{step.pk}",
        name=tool.name,
        arguments={"raw": json.dumps(arguments)},
    )
    return lease, call


def make_gate(
    access: Access,
    *,
    tool: Tool = PRETEND_SEND,
    arguments: dict[str, Any] | None = None,
    kind: GateKind = GateKind.APPROVAL,
    setting: ToolSetting | None = None,
    run: Run | None = None,
    **fields: Any,
) -> Gate:
    """A run that waits at a gate."""
    if kind in (GateKind.QUESTION, GateKind.PLAN):
        tool = ASK_USER
    given = arguments or (QUESTION if tool is ASK_USER else LETTER)
    run = run or make_run(access, **fields)
    lease, call = make_call(run, tool, given)
    assert opening.open_gate(
        lease, [], call=call, tool=tool, arguments=given, kind=kind, setting=setting
    )
    run.refresh_from_db()
    gate = decisions.pending_gate(run)
    assert gate is not None
    return gate


def check_server(server: ToolServer) -> ServerCheck:
    """Ask a server what it offers, as a worker does that was told to."""

    async def ask() -> ServerCheck:
        try:
            return await discovery.ask(server.connection)
        finally:
            await close_sessions()

    return discovery.record_check(server, asyncio.run(ask()))


def say(text: str) -> NewEvent:
    return NewEvent(
        "message.delta", {"role": "assistant", "content": text, "content_delta": text, "step": 1}
    )


def default_teammate(organization: Organization) -> Teammate:
    assert organization.default_teammate is not None
    return organization.default_teammate


def strict(access: Access) -> Access:
    access.organization.require_end_user_id = True
    access.organization.save()
    return replace(access, organization=access.organization)
