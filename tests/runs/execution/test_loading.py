"""What the next step of a run needs, loaded and asked for."""

import pytest

from runs.creation.options import Options
from runs.models import Event
from runs.tools import toolbox
from teammates.access import Access
from teammates.errors import Invalid
from teammates.integrations import server_lookup, servers
from teammates.models import ToolServer
from teammates.people import end_users
from tests.factories import check_server, make_run
from tests.fake_servers import OPERATIONS, FakeShop, program
from tests.runs.execution.calling import add_program, add_shop, run_with
from tests.runs.execution.working import finish, types

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("mode", "reason"), [("garbage", ""), ("dead", "the key of the station is missing")]
)
def test_a_server_that_answers_garbage_is_failing_and_the_run_goes_on(
    home: Access, mode: str, reason: str
) -> None:
    server = add_program(home, "ok")
    check_server(server)
    ToolServer.objects.filter(pk=server.pk).update(command=program(mode), checked_at=None)
    run = finish(run_with(home, 'use weather__forecast {"city": "Bern"}'))
    assert run.status == "completed"
    server.refresh_from_db()
    assert server.status == "failing"
    assert reason in server.status_reason
    assert "run.tool_server.failing" in types(run)
    step = run.steps.first()
    assert step is not None
    assert not [name for name in step.request["tools"] if name.startswith("weather")]
    assert "Weather are not there right now" in step.request["instructions"]


def test_new_tools_of_a_server_are_there_in_the_next_run(home: Access) -> None:
    server = add_program(home, "ok")
    check_server(server)
    ToolServer.objects.filter(pk=server.pk).update(command=program("two"), checked_at=None)
    run = finish(run_with(home, "plain words"))
    assert "weather__make_snow" in toolbox.tools_of_run(run).tools
    event = Event.objects.get(run=run, type="run.tool_server.changed").data
    assert (event["added"], event["removed"], event["changed"]) == (["make_snow"], [], [])
    step = run.steps.first()
    assert step is not None
    assert "added: make_snow" in step.request["instructions"]


def test_a_run_is_given_servers_of_exactly_its_scope(home: Access, shop: FakeShop) -> None:
    customer = end_users.find_or_create(home, "cust_1")
    theirs = Access(home.organization, home.role, home.user, None, customer)
    servers.add_server(
        theirs, servers.NewServer(name="Theirs", url="https://example.com", tool_defs=OPERATIONS)
    )
    add_shop(home, shop)
    other = end_users.find_or_create(home, "cust_2")
    for name in ("theirs", "shop"):  # neither another end user's nor the account's own
        with pytest.raises(Invalid, match=name):
            server_lookup.check_tools(home.organization, other, [name])
    options = Options(tools=["theirs", "shop", "gmail"])
    run = make_run(home, options=options)
    run.route = None
    names = {tool.server for tool in toolbox.tools_of_run(run).tools.values() if tool.server}
    assert names == {"shop"}
