"""Tool calls: judged, asked for, journaled before and after, made at most once (invariant 5)."""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runs.creation import requests
from runs.creation.options import Options, options_of_task, options_of_version
from runs.gates import answers, decisions
from runs.models import (
    Event,
    Gate,
    Report,
    Run,
    RunStatus,
    Task,
    ToolCall,
)
from runs.tools.builtin import VERBS
from runs.tools.setup import DEEPEST
from teammates import tools
from teammates.access import Access
from teammates.errors import Forbidden, Invalid
from teammates.integrations import discovery, servers, tool_policies
from teammates.knowledge import memories, skills
from teammates.models import Teammate, ToolServer
from teammates.people import end_users
from teammates.roster import editing, lookup
from teammates.tools.base import Means
from tests.conftest import free_port
from tests.factories import check_server, make_run
from tests.fake_models import FakeModels
from tests.fake_servers import MCP_PROGRAM, OPERATIONS, FakeShop, program
from tests.runs.execution.calling import (
    ORDER,
    add_program,
    add_shop,
    call_of,
    perform,
    run_with,
    wait,
)
from tests.runs.execution.working import finish, run_on, types, work_until
from threads import files
from threads.files import read_file
from threads.models import File

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama"])
def test_a_tool_call_of_a_real_adapter_is_made_and_told(
    alice: Access, models: FakeModels, kind: str
) -> None:
    run = finish(run_on(alice, models, kind, "tool"))
    assert run.status == RunStatus.COMPLETED, run.error_message
    assert File.objects.get(thread=run.thread).name == "a.txt"
    call = ToolCall.objects.get(run=run)
    assert (call.status, call.arguments) == ("done", {"name": "a.txt", "content": "x"})
    assert len(models.requests) == 2
    order = types(run)
    assert order.index("tool.call") < order.index("file.created") < order.index("tool.result")


def test_a_tool_call_with_bad_arguments_is_told_and_bounded(
    alice: Access, models: FakeModels
) -> None:
    """Trap 5.4."""
    for model, wrong in (("badtool", "are not JSON"), ("unknowntool", "there is no tool")):
        run = finish(run_on(alice, models, "openai", model))
        assert (run.status, run.error_class) == (RunStatus.FAILED, "model.bad_tool_calls")
        errors = set(ToolCall.objects.filter(run=run).values_list("error", flat=True))
        assert all(wrong in error for error in errors)
        assert not File.objects.exists()


def test_in_plan_mode_nothing_changes_before_the_plan_is_approved(alice: Access) -> None:
    run = make_run(alice, message="file notes.txt", options=Options(permission_mode="plan"))
    gate = wait(run)
    assert gate.kind == "plan"
    answers.answer_text(alice, run, "Revise: shorter")
    again = wait(run)
    assert "Changed: shorter" in again.request["questions"][0]["question"]
    answers.answer_text(alice, run, "approve")
    asked = wait(run)
    assert (asked.kind, asked.tool_name) == ("approval", "write_file")  # as in approval mode
    answers.answer_text(alice, run, "yes")
    assert finish(run).status == "completed"
    assert File.objects.get().name == "notes.txt"


def test_a_change_before_the_plan_is_refused_with_what_to_do(alice: Access) -> None:
    from runs.gates.policy import evaluate
    from teammates.tools.files import LIST_FILES, WRITE_FILE

    run = make_run(alice, options=Options(permission_mode="plan"))
    decision = evaluate(run.pk, WRITE_FILE, {"name": "a", "content": "b"})
    assert (decision.kind, decision.reason) == ("refuse", "plan_required")
    assert "Plan Approval" in decision.why
    assert evaluate(run.pk, LIST_FILES, {}).kind == "go"


def test_switching_to_autonomous_lets_a_waiting_run_go_on_without_asking_again(
    alice: Access,
) -> None:
    run = make_run(
        alice,
        message="file notes.txt",
        options=Options(permission_mode="approval"),
    )
    wait(run)
    decisions.switch_mode(alice, run, "autonomous")
    assert finish(run).status == "completed"
    assert Gate.objects.get(run=run).decided_via == "mode"


def test_a_standing_permission_covers_only_its_scope_and_arguments(alice: Access) -> None:
    options = Options(permission_mode="approval")
    tool_policies.allow_tool(alice, "write_file", pattern={"name": "*.txt"})
    run = finish(make_run(alice, message="file notes.txt", options=options))
    assert run.status == "completed"
    policy = call_of(run, "write_file").policy
    assert policy is not None
    assert policy.pattern == {"name": "*.txt"}
    assert wait(make_run(alice, message="file data.csv", options=options)).kind == "approval"


def test_a_setting_of_the_organization_asks_in_every_mode_and_ignores_permissions(
    alice: Access,
) -> None:
    tool_policies.set_tool(alice, "write_file", mode="ask")
    tool_policies.allow_tool(alice, "write_file")
    gate = wait(make_run(alice, message="file notes.txt"))
    assert "always asks" in gate.card["why"]
    assert not gate.card["can_remember"]
    tool_policies.set_tool(alice, "write_file", mode="off")
    run = finish(make_run(alice, message="file notes.txt"))
    assert not File.objects.exists()
    assert run.status == "completed"


def test_edited_arguments_are_what_is_done(alice: Access) -> None:
    run = make_run(
        alice,
        message="file notes.txt",
        options=Options(permission_mode="approval"),
    )
    wait(run)
    given = {"decision": "approve", "arguments": {"name": "better.txt", "content": "mine"}}

    answers.answer_text(alice, run, json.dumps(given))
    finish(run)
    file = File.objects.get()
    assert (file.name, files.read_file(file)) == ("better.txt", b"mine")


def test_every_tool_of_the_domain_has_its_verb_and_every_verb_its_tool() -> None:
    from teammates.tools.result import NAME

    declared = {tool.name for tool in tools.REGISTRY.values() if tool.run == Means.DOMAIN}
    assert declared | {NAME} == set(VERBS)
    assert all(tool.group in tools.GROUPS for tool in tools.REGISTRY.values())


def test_memories_of_scopes_and_of_other_teammates_never_mix(alice: Access) -> None:
    normal, work = (lookup.get_persona(alice, key)[0] for key in ("normal", "work"))
    customer = end_users.find_or_create(alice, "cust_1")
    theirs = Access(alice.organization, alice.role, alice.user, None, customer)
    memories.add_memory(alice, "Of the account.")
    memories.add_memory(alice, "Of Demo alone.", teammate=normal)
    memories.add_memory(theirs, "Of the customer.")

    def told(end_user: Any, teammate: Teammate) -> set[str]:
        found = memories.memories_for(replace(alice, end_user=end_user), teammate, "")
        return {one.memory.content for one in found}

    assert told(None, normal) == {"Of the account.", "Of Demo alone."}
    assert told(None, work) == {"Of the account."}
    assert told(customer, normal) == {"Of the customer."}


def test_notices_and_reports_reach_people(alice: Access) -> None:
    run = finish(make_run(alice, message="notify me and complain"))
    (notice,) = run.notices.all()
    assert (notice.user, notice.title) == (alice.user, "News")
    assert Report.objects.get().title == "The demo complains"
    silent = finish(make_run(alice, message="complain", options=Options(feedback=False)))
    assert not silent.reports.exists()


def test_a_teammate_starts_tasks_within_its_own_limits(alice: Access) -> None:
    run = finish(make_run(alice, message="delegate it"))
    task = Task.objects.get(is_ad_hoc=False)
    started = Run.objects.get(started_by=run)
    assert (started.task, started.depth) == (task, 1)
    off = Options(task_setup_tools=False)
    finish(make_run(alice, message="delegate it", options=off))
    assert Task.objects.filter(is_ad_hoc=False).count() == 1


def test_what_a_run_makes_is_never_looser_than_the_run(alice: Access) -> None:
    run = make_run(alice, options=Options(permission_mode="approval"))
    call = ToolCall(run=run)
    made = perform(run, call, "create_teammate", {"name": "Helper"})
    helper = Teammate.objects.get(pk=made["teammate_id"])
    assert helper.current_version.permission_mode == "approval"
    strong = editing.create_teammate(alice, name="Strong", tools=["gmail"], permission_mode="plan")
    with pytest.raises(Forbidden, match="may do more"):
        perform(run, call, "update_teammate", {"teammate_id": strong.pk, "role": "x"})
    theirs = {"name": "t", "instructions": "x", "teammate_id": strong.pk}
    saved = perform(run, call, "create_task", theirs)
    run.feedback = False
    grandchild = Run.objects.get(pk=perform(run, call, "run_task", saved)["run_id"])
    assert (grandchild.tools, grandchild.feedback, grandchild.memory) == ([], False, True)
    assert grandchild.permission_mode == "plan"  # the stricter of the two
    saved = perform(run, call, "create_task", {"name": "x", "instructions": "think"})
    started = perform(run, call, "run_task", saved | {"message": "now"} | {"name": ""})
    child = Run.objects.get(pk=started["run_id"])
    assert (child.permission_mode, child.human_in_the_loop) == ("approval", True)
    with pytest.raises(Invalid, match="do not have"):
        perform(run, call, "create_teammate", {"name": "y", "tools": ["gmail"]})
    child.depth = DEEPEST
    with pytest.raises(Exception, match="deep"):
        perform(child, call, "run_task", saved)


def test_a_task_says_what_its_runs_inherit(alice: Access) -> None:
    normal = lookup.get_persona(alice, "normal")[0]
    task = Task.objects.create(
        organization=alice.organization,
        teammate=normal,
        name="t",
        instructions="x",
        permission_mode="approval",
        memory=False,
        effort="low",
    )
    options = Options(memory=True).merged_with(
        options_of_task(task).merged_with(options_of_version(normal.current_version))
    )
    assert (options.permission_mode, options.memory, options.effort) == ("approval", True, "low")


def test_writing_over_a_file_shows_what_would_change(alice: Access) -> None:
    from tests.factories import make_gate
    from tests.factories import make_thread as new_thread

    thread = new_thread(alice)
    files.write_file(thread, name="a.txt", content=b"one\ntwo\nthree\n")
    gate = make_gate(
        alice,
        tool=tools.REGISTRY["write_file"],
        thread=thread,
        arguments={"name": "a.txt", "content": "one\n2\nthree\n"},
    )
    assert [sign for sign, _ in gate.card["diff"]][1:] == [" ", "-", "+", " "]


def test_the_set_up_tools_see_their_own_scope_alone(alice: Access) -> None:
    customer = end_users.find_or_create(alice, "cust_1")
    theirs = Access(alice.organization, alice.role, alice.user, None, customer)
    agent = editing.create_teammate(alice, name="Theirs", end_user=customer)
    account_run = make_run(alice)
    run = requests.create_run(
        theirs,
        message="x",
        options=Options(),
        teammate_id=agent.pk,
        user_id="cust_1",
    )
    call = ToolCall(run=run)
    listed = perform(run, call, "list_teammates", {})
    assert [one["name"] for one in listed] == ["Theirs"]
    assert [r["run_id"] for r in perform(run, call, "list_runs", {})] == [run.pk]
    with pytest.raises(Exception, match="no such run"):
        perform(run, call, "get_run", {"run_id": account_run.pk})
    assert "Theirs" not in str(perform(account_run, call, "list_teammates", {}))
    for name in ("list_tasks", "list_approvals", "list_apps", "recall"):
        perform(run, call, name, {})


def test_skills_are_offered_loaded_and_forced(alice: Access) -> None:
    skill = skills.add_skill(
        alice, name="Refund playbook", description="When a refund is asked for.", body="Step one."
    )
    run = make_run(alice, options=Options(skill=skill.slug))
    run = finish(run)
    step = run.steps.first()
    assert step is not None
    assert "Step one." in step.request["instructions"]
    plain = finish(make_run(alice))
    step = plain.steps.first()
    assert step is not None
    assert "refund-playbook: When a refund" in step.request["instructions"]
    assert "load_skill" in step.request["tools"]
    with pytest.raises(Invalid, match="no-such"):
        make_run(alice, options=Options(skill="no-such"))


def test_a_rest_api_is_called_with_its_credential_which_nobody_sees(
    home: Access, shop: FakeShop
) -> None:
    add_shop(home, shop)
    run = finish(run_with(home, 'use shop__get_order {"id": "a/b c"}'))
    (_, path, headers) = shop.seen[0]
    assert path == "/orders/a%2Fb%20c"
    assert headers["Authorization"] == "Bearer shop-secret-12345"
    call = call_of(run, "shop__get_order")
    assert call.status == "done"
    everything = str(list(Event.objects.values_list("data", flat=True))) + str(call.result)
    assert "shop-secret" not in everything
    assert "shop-secret" not in str(list(run.steps.values_list("request", "response")))


def test_what_an_untrusted_server_changes_asks_in_every_mode_and_a_trusted_ones_does_not(
    home: Access, shop: FakeShop
) -> None:
    server = add_shop(home, shop)
    run = run_with(home, ORDER)
    gate = wait(run)
    assert "not trusted" in gate.card["why"]
    assert not shop.counts
    answers.answer_text(home, run, "yes")
    assert finish(run).status == "completed"
    servers.trust_server(home, server)
    run = finish(run_with(home, ORDER))
    assert call_of(run, "shop__create_order").status == "done"
    assert sorted(shop.counts.values()) == [1, 1]
    assert wait(run_with(home, ORDER, permission_mode="approval")).kind == "approval"


def test_errors_and_redirects_of_a_server_are_told_to_the_model(
    home: Access, shop: FakeShop
) -> None:
    add_shop(home, shop)
    run = finish(run_with(home, 'use shop__get_order {"id": "missing"} and use shop__away'))
    assert "404" in call_of(run, "shop__get_order").error
    assert "redirect" in call_of(run, "shop__away").error
    assert run.status == "completed"


def test_what_broke_off_is_asked_about_also_when_its_tool_is_gone(
    home: Access, shop: FakeShop
) -> None:
    server = add_shop(home, shop, auto_approve=True)
    run = run_with(home, "use shop__drop")
    first = wait(run)
    answers.answer_text(home, run, "retry")
    call = call_of(run, "shop__drop")
    call.status = "unknown"
    call.save()
    servers.delete_server(home, server)
    again = wait(run)
    assert (again.pk != first.pk, again.kind) == (True, "unknown")
    assert "Shop: drop" in again.prompt
    answers.answer_text(home, run, "deny")
    assert finish(run).status == "completed"
    assert sum(shop.counts.values()) == 1


def test_a_server_that_was_never_reached_is_no_unknown_effect(home: Access, shop: FakeShop) -> None:
    server = add_shop(home, shop, auto_approve=True)
    ToolServer.objects.filter(pk=server.pk).update(url="http://127.0.0.1:1")
    run = finish(run_with(home, ORDER))
    assert "Nothing was sent" in call_of(run, "shop__create_order").error


def test_an_approval_does_not_count_for_a_tool_that_changed_meanwhile(
    home: Access, shop: FakeShop
) -> None:
    server = add_shop(home, shop)
    run = run_with(home, ORDER)
    first = wait(run)
    changed = [op | {"description": "Order ten of it."} for op in OPERATIONS]
    servers.update_server(home, server, tool_defs=changed)
    answers.answer_text(home, run, "yes")
    second = wait(run)
    assert second.pk != first.pk
    assert second.digest != first.digest
    assert not shop.counts


def test_an_mcp_program_is_asked_called_and_its_pictures_are_files(home: Access) -> None:
    server = add_program(home, "ok", environment="STATION=Potsdam", auto_approve=True)
    checked = check_server(server)
    assert checked.error == ""
    names = ["forecast", "picture", "postcard", "report", "make_rain"]
    assert [one.name for one in checked.operations] == names
    assert [one.reads_only for one in checked.operations] == [True, True, True, True, False]
    message = 'use weather__forecast {"city": "Bern"} and use weather__picture'
    run = finish(run_with(home, message))
    assert "Sunny in Bern, says Potsdam" in str(call_of(run, "weather__forecast").result)
    assert File.objects.get().name.endswith(".png")
    call = call_of(finish(run_with(home, "use weather__report")), "weather__report")
    assert "[file in the file report-" in str(call.result)
    (shown,) = call.media
    assert (shown["kind"], read_file(File.objects.get(pk=shown["file_id"]))) == (
        "pdf",
        b"%PDF-1.4 of the year",
    )


def test_an_mcp_server_over_http(home: Access) -> None:
    port = free_port()
    process = subprocess.Popen([sys.executable, str(MCP_PROGRAM), "http", str(port)])
    try:
        for _ in range(200):
            try:
                httpx2.get(f"http://127.0.0.1:{port}/mcp", trust_env=False)
                break
            except httpx2.TransportError:
                time.sleep(0.05)
        url = f"http://127.0.0.1:{port}/mcp"
        server = servers.add_server(
            home,
            servers.NewServer(
                name="Weather",
                kind="mcp_http",
                url=url,
                may_be_private=True,
                auto_approve=True,
            ),
        )
        assert check_server(server).error == ""
        run = finish(run_with(home, 'use weather__forecast {"city": "Rome"}'))
        assert "Sunny in Rome" in str(call_of(run, "weather__forecast").result)
    finally:
        process.terminate()
        process.wait(timeout=10)


def test_a_program_that_dies_in_a_call_is_told_and_replaced(home: Access) -> None:
    server = add_program(home, "ok", auto_approve=True)
    check_server(server)
    ToolServer.objects.filter(pk=server.pk).update(command=program("crash"))
    run = finish(run_with(home, 'use weather__forecast {"city": "Bern"}'))
    call = call_of(run, "weather__forecast")
    assert (run.status, call.status) == ("completed", "failed")
    assert "broke off" in call.error
    again = finish(run_with(home, "use weather__picture"))
    assert call_of(again, "weather__picture").status == "done"


def test_a_change_by_a_program_that_dies_is_unknown(home: Access, tmp_path: Path) -> None:
    counter = tmp_path / "count"
    server = add_program(home, "ok", auto_approve=True)
    check_server(server)
    command = program("dies_raining", str(counter))
    ToolServer.objects.filter(pk=server.pk).update(command=command)
    run = run_with(home, 'use weather__make_rain {"city": "Bern"}')
    assert wait(run).kind == "unknown"
    assert counter.read_text() == "1"
    answers.answer_text(home, run, "yes")
    assert finish(run).status == "completed"
    assert counter.read_text() == "1"


def test_secrets_in_arguments_are_in_no_event(home: Access, shop: FakeShop) -> None:
    add_shop(home, shop, auto_approve=True)
    message = 'use shop__create_order {"item": "Bearer abcdefghijklmnop"}'
    run = finish(run_with(home, message))
    events = Event.objects.filter(run=run).exclude(type__startswith="message.")
    assert events.filter(type="tool.call.delta").exists()
    assert "abcdefghijklmnop" not in str(list(events.values_list("data", flat=True)))
    assert call_of(run, "shop__create_order").arguments["item"] == "Bearer abcdefghijklmnop"


def test_an_mcp_servers_word_that_it_only_reads_counts_once_it_is_trusted(home: Access) -> None:
    server = add_program(home, "ok")
    check_server(server)
    run = run_with(home, 'use weather__forecast {"city": "Bern"}')
    assert wait(run).kind == "approval"
    servers.trust_server(home, server)
    run = finish(run_with(home, 'use weather__forecast {"city": "Bern"}'))
    assert call_of(run, "weather__forecast").status == "done"


def test_a_server_that_fails_in_mid_run_is_news_for_the_model_and_no_bad_call(
    home: Access, shop: FakeShop
) -> None:
    server = add_shop(home, shop)
    run = run_with(home, ORDER)
    wait(run)
    ToolServer.objects.filter(pk=server.pk).update(status="failing", status_reason="It is away.")
    answers.answer_text(home, run, "yes")
    run = finish(run)
    call = call_of(run, "shop__create_order")
    assert (run.status, call.status) == ("completed", "failed")
    assert "Shop is not there right now: It is away." in call.error
    assert not shop.counts


def test_testing_a_server_leaves_the_workers_sessions_alone(home: Access) -> None:
    """A page asks on an event loop of its own."""
    server = add_program(home, "ok", auto_approve=True)
    check_server(server)
    run = run_with(home, 'use weather__forecast {"city": "Bern"} slow 40 20ms')
    tested: list[str] = []

    def test_once_it_spoke() -> None:
        if not tested and Event.objects.filter(run=run, type="tool.result").exists():
            tested.append(check_server(server).error)

    work_until(lambda: Run.objects.get(pk=run.pk).is_finished, meanwhile=test_once_it_spoke)
    assert tested == [""]
    assert call_of(run, "weather__forecast").status == "done"


def test_numbers_that_are_no_json_are_told_to_the_model() -> None:
    from runs.execution import tool_step
    from teammates.tools.todo import UPDATE_TODOS

    for text in ('{"items": NaN}', '{"items": [Infinity]}', "{broken"):
        call = ToolCall(name="update_todos", arguments={"raw": text})
        _, wrong = asyncio.run(tool_step._read_arguments(UPDATE_TODOS, call))
        assert "are not JSON" in wrong
    assert UPDATE_TODOS.digest({"n": 1e16}) == UPDATE_TODOS.digest({"n": 10000000000000000})


def test_members_start_their_own_tasks_alone(alice: Access) -> None:
    from tests.factories import make_bob

    bob = make_bob(alice)
    hers = make_run(alice)
    saved = perform(hers, ToolCall(run=hers), "create_task", {"name": "Hers", "instructions": "x"})
    his = make_run(bob)
    call = ToolCall(run=his)
    assert perform(his, call, "list_tasks", {}) == []
    with pytest.raises(Exception, match="no such task"):
        perform(his, call, "run_task", {"task_id": saved["task_id"]})


def test_a_new_server_is_not_covered_by_what_was_allowed_to_an_old_one(
    home: Access, shop: FakeShop
) -> None:
    server = add_shop(home, shop)
    tool_policies.allow_tool(home, "shop")
    tool_policies.set_tool(home, "shop__create_order", mode="off")
    servers.delete_server(home, server)
    add_shop(home, shop)
    assert wait(run_with(home, ORDER)).kind == "approval"
    with pytest.raises(Exception, match="already"):
        servers.add_server(
            home, servers.NewServer(name="x", url="https://example.com", slug="shop")
        )


def test_a_check_of_an_old_address_says_nothing_about_a_new_one(home: Access) -> None:
    server = add_program(home, "ok")
    check_server(server)
    changed = servers.update_server(home, server, command=program("two"))
    assert (changed.operations, changed.checked_at) == ([], None)
    discovery.record_check(server, discovery.ServerCheck([], "old news"))
    changed.refresh_from_db()
    assert changed.status == "active"
