"""API keys: who renews and ends them, what they may do, and for how long."""

from datetime import timedelta
from typing import Any, cast

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from runs.models import Firing, Run, Task, Trigger, TriggerKind
from runs.tasks import tasks
from runs.tools import authority
from runs.triggers import definitions, firing, targets
from runs.triggers.targets import TriggerEvent
from teammates.access import Access
from teammates.errors import Conflict, Forbidden, Invalid, NotSignedIn
from teammates.models import APIKey, Role
from teammates.people import api_keys, organizations
from teammates.roster import editing
from tests.api import call
from tests.factories import PASSWORD, make_bob, make_key, make_run


def limited(access: Access, *scopes: str, days: int | None = None) -> Access:
    secret = api_keys.create_key(access, name="limited", scopes=list(scopes), expires_in_days=days)[
        1
    ]
    return api_keys.access_of_bearer(secret)


def test_an_admin_gets_nobodys_secret(alice: Access) -> None:
    admin = make_bob(alice, role=Role.ADMIN)
    key, secret = api_keys.create_key(alice, name="the owner's")
    with pytest.raises(Forbidden):
        api_keys.rotate_key(admin, key)
    assert api_keys.access_of_bearer(secret).user == alice.user
    answer = call(make_key(admin), "POST", f"/api/v2/keys/{key.pk}/rotate")
    assert answer.status_code == 403
    assert APIKey.objects.get(pk=key.pk).hash == key.hash


def test_a_key_renews_itself_and_its_children_alone(alice: Access) -> None:
    broad, _ = api_keys.create_key(alice, name="broad")
    narrow = limited(alice, "data.api_keys.manage", "data.runs.read", days=1)
    with pytest.raises(Forbidden):
        api_keys.rotate_key(narrow, broad)
    assert narrow.api_key is not None
    api_keys.rotate_key(narrow, narrow.api_key)
    child, _ = api_keys.create_key(narrow, name="child")
    api_keys.rotate_key(narrow, child)


def test_a_child_never_outlives_or_exceeds_its_parent(alice: Access) -> None:
    parent = limited(alice, "data.api_keys.manage", "data.runs.read", days=1)
    child, secret = api_keys.create_key(parent, name="child", expires_in_days=365)
    assert child.expires_at is not None
    assert child.expires_at <= timezone.now() + timedelta(days=1)
    assert child.scopes == ["data.api_keys.manage", "data.runs.read"]
    with pytest.raises(Forbidden, match=r"data\.webhooks"):
        api_keys.create_key(parent, name="more", scopes=["data.webhooks.manage"])
    with pytest.raises(Invalid, match=r"no data\.everything"):
        api_keys.create_key(parent, name="odd", scopes=["data.everything"])
    default, _ = api_keys.renew_default_key(parent)
    assert (default.scopes, default.expires_at) == (child.scopes, child.expires_at)
    assert parent.api_key is not None
    api_keys.revoke_key(alice, parent.api_key)
    with pytest.raises(NotSignedIn):
        api_keys.access_of_bearer(secret)


def test_a_revoked_key_has_no_new_secret(alice: Access) -> None:
    key, _ = api_keys.create_key(alice, name="k")
    api_keys.revoke_key(alice, key)
    api_keys.revoke_key(alice, key)
    with pytest.raises(Conflict):
        api_keys.rotate_key(alice, key)


def test_a_member_neither_sees_nor_ends_a_colleagues_key(alice: Access, bob: Access) -> None:
    key, _ = api_keys.create_key(alice, name="the owner's")
    assert call(make_key(bob), "DELETE", f"/api/v2/keys/{key.pk}").status_code == 404
    assert call(make_key(bob), "POST", f"/api/v2/keys/{key.pk}/rotate").status_code == 404
    with pytest.raises(Forbidden):
        api_keys.renew_default_key(bob)


def test_a_key_may_do_what_its_scopes_say_and_no_more(alice: Access) -> None:
    run = make_run(alice)
    reader = make_key_with(alice, "data.runs.read")
    assert call(reader, "GET", f"/api/v2/runs/{run.pk}").status_code == 200
    refused = call(reader, "POST", f"/api/v2/runs/{run.pk}/cancel")
    assert refused.status_code == 403
    assert refused.json()["error"]["error_code"] == "scope_forbidden"
    assert call(reader, "GET", "/api/v2/teammates").status_code == 403


def make_key_with(access: Access, *scopes: str) -> str:
    return api_keys.create_key(access, name="limited", scopes=list(scopes))[1]


def test_no_route_is_open_to_a_key_that_may_nothing(alice: Access, client: Client) -> None:
    """Whatever the APIs describe, but what only tells who one is, and Muster's own catalogue."""
    from config.api import hooks, v1, v2

    run = make_run(alice)
    secret = make_key(alice)
    APIKey.objects.filter(prefix=secret[:12]).update(scopes=["nothing"])
    tells_nothing = {
        "/api/v1/auth/me",
        "/api/v1/auth/logout",
        "/api/v2/verify/status",
        "/api/v2/verify/resend",
        "/api/v2/billing/plans",
        "/api/v2/agent-templates",
    }
    let_in: list[str] = []
    for api in (v1, v2, hooks):
        for path, operations in api.get_openapi_schema()["paths"].items():
            for method, operation in operations.items():
                if not operation.get("security") or path in tells_nothing:
                    continue
                answer = client.generic(
                    method.upper(),
                    _filled(path, run.pk, str(run.uid), str(run.thread.uid)),
                    "{}",
                    content_type="application/json",
                    headers={"authorization": f"Bearer {secret}"},
                )
                if answer.status_code < 400:
                    let_in.append(f"{method.upper()} {path}")
    assert not let_in, let_in


def _filled(path: str, number: int, run: str, thread: str) -> str:
    import re

    if path.startswith("/v1"):
        return re.sub(r"{thread_id}", thread, re.sub(r"{\w*run_id}", run, path))
    return re.sub(r"{\w+}", str(number), path)


def test_the_first_key_is_limited_and_ends(db: Any) -> None:
    organization = organizations.first_organization()
    key, secret = api_keys.create_first_key(organization)
    assert key.expires_at is not None
    assert key.expires_at < timezone.now() + timedelta(days=31)
    access = api_keys.access_of_bearer(secret)
    assert access.may("data.runs.write")
    assert not access.may("org.members.invite")
    more, _ = api_keys.create_key(access, name="more")
    assert (more.expires_at, more.scopes) == (key.expires_at, key.scopes)


def test_a_limited_key_does_not_act_as_the_person(alice: Access) -> None:
    _, limited = api_keys.create_key(alice, name="x", scopes=["data.runs.read"])
    body = {"current_password": PASSWORD, "new_password": "another horse 27"}
    assert call(limited, "POST", "/api/v2/account/password", body).status_code == 403
    assert call(make_key(alice), "POST", "/api/v2/account/password", body).status_code == 200


def test_a_run_of_a_limited_key_may_do_no_more_than_the_key(alice: Access) -> None:
    limited, _ = api_keys.create_key(alice, name="x", scopes=["data.runs.read", "data.runs.write"])
    run = make_run(alice)
    Run.objects.filter(pk=run.pk).update(api_key=limited)
    access = authority.access_of_run(Run.objects.get(pk=run.pk))
    assert access.may("data.runs.write")
    assert not access.may("data.personas.manage")
    assert authority.access_of_run(make_run(alice)).may("data.personas.manage")
    api_keys.revoke_key(alice, limited)
    with pytest.raises(Forbidden, match="revoked"):
        authority.access_of_run(Run.objects.get(pk=run.pk))


def fired(task: Task) -> Firing:
    trigger = Trigger.objects.with_task().get(task=task)
    with transaction.atomic():
        return firing.fire(targets.target_of(trigger), TriggerEvent(TriggerKind.SCHEDULE, "now"))


def test_what_a_limited_key_set_up_may_do_no_more_when_it_starts_by_itself(alice: Access) -> None:
    scopes = ["data.runs.read", "data.runs.write", "data.threads.write"]
    narrow = limited(alice, *scopes)
    mine = editing.create_teammate(alice, name="Mine")
    task = tasks.create_task(narrow, mine, instructions="Look around.")
    definitions.add_schedule(narrow, task, cron="0 7 * * *", overlap="allow")
    run = fired(task).run
    assert run is not None
    access = authority.access_of_run(run)
    assert (access.user, access.limited_key) == (alice.user, narrow.api_key)
    assert not access.may("data.personas.manage")

    api_keys.revoke_key(alice, cast(APIKey, narrow.api_key))
    refused = fired(task)
    assert refused.run is None
    assert "is revoked" in refused.detail

    tasks.update_task(alice, task, enabled=True)
    again = fired(task).run
    assert again is not None
    assert authority.access_of_run(again).may("data.personas.manage")


def test_a_limited_key_that_changes_a_task_stands_for_it(alice: Access) -> None:
    task = tasks.create_task(alice, editing.create_teammate(alice, name="M"), instructions="Look.")
    definitions.add_schedule(alice, task, cron="0 7 * * *")
    narrow = limited(alice, "data.runs.write", "data.threads.write")
    tasks.update_task(narrow, task, instructions="Tell the world.")
    run = fired(task).run
    assert run is not None
    assert authority.access_of_run(run).limited_key == narrow.api_key
