"""Pages as a whole: what each role gets, odd questions, sums, and what is written down."""

import csv
import io
import re
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import conditional_escape

from runs.models import Run, RunStatus, WorkerBeat
from runs.queries import activity, timeline
from runs.usage import report as usage_report
from runs.usage import totals
from runs.usage.periods import Span
from runs.views import end_users as end_users_views
from runs.views import files as files_views
from runs.views import teammate_lists as runs_teammates
from teammates.access import Access
from teammates.knowledge import memories, skills
from teammates.llm import catalog
from teammates.models import AuditEntry, Author, Organization, Provider, Role, Teammate
from teammates.people import api_keys, end_users
from teammates.roster import editing
from teammates.templatetags.muster import plain
from teammates.views import keys as keys_views
from teammates.views import knowledge as knowledge_views
from tests.e2e.pages import ADMIN_PAGES, PAGES, RUN_TABS, TEAMMATE_TABS
from tests.factories import browser_of, make_bob, make_eve, make_gate, make_run
from threads import files


@pytest.mark.parametrize("role", [Role.OWNER, Role.MEMBER, Role.VIEWER])
def test_each_page_is_there_for_those_who_may_see_it(alice: Access, role: str) -> None:
    access = alice if role == Role.OWNER else make_bob(alice, role=role)
    Organization.objects.update(is_home=True)
    browser = browser_of(access)
    for path in PAGES:
        expected = 403 if path in ADMIN_PAGES and role != Role.OWNER else 200
        assert browser.get(path).status_code == expected, path
    mate = Teammate.objects.get(organization=alice.organization, key="normal")
    for tab in TEAMMATE_TABS:
        assert browser.get(f"/teammates/{mate.pk}/?tab={tab}").status_code == 200, tab


def test_a_run_of_each_state_has_all_its_tabs(alice: Access, bob: Access) -> None:
    runs = [
        make_run(alice, status=state)
        for state in (
            RunStatus.QUEUED,
            RunStatus.RUNNING,
            RunStatus.COMPLETED,
            RunStatus.FAILED,
            RunStatus.CANCELLED,
        )
    ]
    runs.append(make_gate(alice).run)
    for run in runs:
        for tab in RUN_TABS:
            page = browser_of(alice).get(f"/runs/{run.pk}/?tab={tab}")
            assert page.status_code == 200, (run.status, tab)
        assert browser_of(alice).get(f"/runs/{run.pk}/peek/").status_code == 200
        assert browser_of(alice).get(f"/runs/{run.pk}/events.jsonl").status_code == 200
        assert browser_of(bob).get(f"/runs/{run.pk}/").status_code == 404
        assert browser_of(make_eve_once()).get(f"/runs/{run.pk}/peek/").status_code == 404


def make_eve_once() -> Access:
    from teammates.access import access_of_member
    from teammates.models import User

    known = User.objects.filter(email="eve@example.com").first()
    access = access_of_member(known) if known else make_eve()
    assert access is not None
    return access


@pytest.mark.parametrize(
    "path",
    [
        "/search/?q=a%00",
        "/teammates/?q=%00",
        "/runs/?q=by:a%00",
        "/settings/audit/?resource=%00",
    ],
)
def test_a_nul_is_refused_in_a_sentence(alice: Access, path: str) -> None:
    answer = browser_of(alice).get(path)
    assert answer.status_code == 422
    assert "NUL" in answer.content.decode()


@pytest.mark.parametrize(
    "path",
    [
        "/runs/?q=cost:>1e-99999",
        "/runs/?after=²",
        "/runs/?after=" + "9" * 30,
        "/runs/?q=" + "a:" * 900,
        "/runs/?q=bogus:1&group=error",
        "/runs/?q=until:9999-12-31",
        "/runs/?q=since:0001-01-01",
        "/runs/?q=since:9999-12-31",
        "/runs/?q=on:9999-12-31",
        "/usage/?period=custom&start=9999-12-01&end=9999-12-31",
        "/usage/?period=custom&start=x",
        "/usage/?period=custom&start=2026-01-02&end=2026-01-01",
        "/threads/?after=" + "9" * 30,
        "/files/?after=x",
        "/settings/audit/?after=" + "9" * 25,
        "/search/?q=%27%3A*%26%7C%5C",
        "/needs-you/?gate=" + "9" * 30,
        "/needs-you/?gate=" + "x" * 36,
        "/teammates/?mode=x",
    ],
)
def test_odd_questions_get_an_answer(alice: Access, path: str) -> None:
    make_run(alice, status=RunStatus.COMPLETED)
    assert browser_of(alice).get(path).status_code in (200, 422), path


def test_usage_adds_up_in_every_group_and_as_csv(alice: Access, bob: Access) -> None:
    for who in (alice, alice, bob):
        make_run(who, status=RunStatus.COMPLETED)
    span = Span.last(7)
    assert usage_report.report(bob, span, by=["teammate"], measure="runs").sums.runs == 1
    page = browser_of(alice).get("/usage/?by=member&format=csv").content.decode()
    rows = {row[0]: row[1] for row in csv.reader(io.StringIO(page))}
    assert rows == {"Member": "Runs", "Alice": "2", "Bob": "1"}
    assert [day["runs"] for day in totals.by_day(alice, span)] == [0, 0, 0, 0, 0, 0, 3]


def test_an_export_has_exactly_what_the_list_shows(alice: Access) -> None:
    make_run(alice, message="=cmd()", status=RunStatus.COMPLETED)
    make_run(alice, message="other", status=RunStatus.FAILED)
    browser = browser_of(alice)
    page = browser.get("/runs/?q=status:completed&format=csv").content.decode()
    (row,) = csv.DictReader(io.StringIO(page))
    assert row["title"] == "'=cmd()"
    assert browser.get("/runs/?q=status:completed&format=jsonl").content.count(b"\n") == 1
    refused = browser.get("/runs/?q=status:faild&format=csv")
    assert refused.status_code == 422


def test_acts_on_several_do_what_they_can_and_say_the_rest(alice: Access, bob: Access) -> None:
    queued, done = make_run(alice), make_run(alice, status=RunStatus.COMPLETED)
    others = make_run(bob)
    browser = browser_of(bob)
    browser.post("/runs/act/", {"act": "cancel", "run": [queued.pk, others.pk]})
    states = dict(Run.objects.values_list("pk", "status"))
    assert (states[queued.pk], states[others.pk]) == ("queued", "cancelled")
    owner = browser_of(alice)
    said = owner.post(
        "/runs/act/", {"act": "cancel", "run": [queued.pk, done.pk]}, follow=True
    ).content.decode()
    assert "1 stopped." in said
    assert "1 left as they were" in said
    before = Run.objects.filter(status="cancelled").count()
    owner.post("/runs/act/", {"act": "cancel", "all": "1", "q": "status:faild"})
    assert Run.objects.filter(status="cancelled").count() == before
    viewer = browser_of(make_bob(alice, role=Role.VIEWER, email="v@example.com"))
    assert viewer.post("/runs/act/", {"act": "archive", "run": [done.pk]}).status_code == 403


def test_settings_are_saved_without_a_limit_and_a_limit_is_taken_away(alice: Access) -> None:
    browser, stored = browser_of(alice), alice.organization
    given = {"name": "Acme", "timezone": "Asia/Tokyo", "retention_mode": stored.retention_mode}
    browser.post("/settings/", given | {"per_end_user_run_limit": "7"})
    stored.refresh_from_db()
    assert (stored.timezone, stored.per_end_user_run_limit) == ("Asia/Tokyo", 7)
    fields = re.findall(
        r"<input[^>]*per_end_user[^>]*>", browser.get("/settings/").content.decode()
    )
    assert len(fields) == 3
    assert not any(" required" in field for field in fields)
    browser.post("/settings/", given | {"timezone": "UTC"})
    stored.refresh_from_db()
    assert (stored.timezone, stored.per_end_user_run_limit) == ("UTC", None)


def test_a_new_password_signs_other_browsers_out_and_not_this_one(alice: Access) -> None:
    assert alice.user is not None
    alice.user.set_password("old pass phrase")
    alice.user.save()
    here, elsewhere = Client(), Client()
    for browser in (here, elsewhere):
        browser.post("/sign-in/", {"email": alice.user.email, "password": "old pass phrase"})
        assert browser.get("/settings/account/").status_code == 200
    form = {"form": "password", "current": "wrong", "new": "another pass phrase"}
    assert here.post("/settings/account/", form).status_code == 422
    here.post("/settings/account/", form | {"current": "old pass phrase"})
    here.post("/settings/account/", {"form": "name", "name": "Alice B."})
    assert "Alice B." in here.get("/settings/account/").content.decode()
    assert elsewhere.get("/settings/account/").status_code == 302


def test_what_people_change_is_in_the_audit_log(alice: Access) -> None:
    browser = browser_of(alice)
    browser.get("/teammates/")
    mate = Teammate.objects.get(organization=alice.organization, key="lite")
    browser.post(f"/teammates/{mate.pk}/act/", {"act": "pause"})
    change, entry = AuditEntry.objects.exclude(resource_type="account").order_by("id")
    assert (entry.resource_type, entry.resource_id, entry.action) == (
        "agent",
        str(mate.pk),
        "agent.act",
    )
    assert (change.action, change.changes) == ("agent.enable", {"status": ["enabled", "disabled"]})
    assert "Changed teammate" in browser.get("/settings/audit/?auth=dashboard").content.decode()
    assert AuditEntry.objects.exclude(resource_type="account").count() == 2


def test_an_edit_is_not_saved_over_a_colleagues(alice: Access) -> None:
    browser = browser_of(alice)
    mate = Teammate.objects.get(organization=alice.organization, key="normal")
    form = {"name": "Demo", "instructions": "First.", "permission_mode": "approval", "base": "1"}
    assert browser.post(f"/teammates/{mate.pk}/?tab=setup", form).status_code == 302
    late = browser.post(f"/teammates/{mate.pk}/?tab=setup", form | {"instructions": "Late."})
    assert late.status_code == 422
    assert "saved v2 while you edited v1" in late.content.decode()
    assert "Late." in late.content.decode()
    saved = browser.post(
        f"/teammates/{mate.pk}/?tab=setup", form | {"instructions": "Late.", "base": "2"}
    )
    assert saved.status_code == 302
    compared = browser.get(f"/teammates/{mate.pk}/?tab=versions&a=2&b=3").content.decode()
    assert re.search(r"<ins\s*>\+ Late.</ins>", compared)
    browser.post(f"/teammates/{mate.pk}/versions/2/restore/")
    mate.refresh_from_db()
    assert (mate.current_version.number, mate.current_version.instructions) == (4, "First.")


def test_a_timeline_folds_the_waits_of_people(alice: Access) -> None:
    from datetime import timedelta

    from runs.models import Gate

    gate = make_gate(alice)
    Gate.objects.filter(pk=gate.pk).update(created_at=gate.created_at - timedelta(hours=2))
    Run.objects.filter(pk=gate.run_id).update(
        created_at=gate.created_at - timedelta(hours=2, seconds=3)
    )
    run = Run.objects.get(pk=gate.run_id)
    folded = timeline.draw(run)
    shown = timeline.draw(run, hide_idle=False)
    assert (folded.is_folded, shown.is_folded, shown.has_waits) == (True, False, True)
    assert [label for _, label in folded.folds] == ["2 h"]
    for drawn in (folded, shown):
        for row in drawn.rows:
            for bar in row.bars:
                assert 0 <= bar.x <= bar.x + bar.width <= timeline.AXIS + timeline.LEAST_BAR


def test_workers_are_known_while_they_give_signs(alice: Access) -> None:
    from runs.lifecycle import workers

    assert not workers.is_anybody_working()
    workers.beat("one", running=1, capacity=5)
    workers.beat("one", running=2, capacity=5)
    assert workers.is_anybody_working()
    assert WorkerBeat.objects.get().running == 2
    alice.organization.is_home = True
    alice.organization.save()
    assert "2 of 5" in browser_of(alice).get("/status").content.decode()
    workers.leave("one")
    assert not workers.is_anybody_working()


def test_an_owners_key_and_invitation_are_not_an_admins(alice: Access) -> None:
    from teammates.errors import Forbidden
    from teammates.people import api_keys, invitations

    admin = make_bob(alice, role=Role.ADMIN)
    invitation, _ = invitations.invite(alice, email="new@example.com", role=Role.OWNER)
    with pytest.raises(Forbidden):
        invitations.renew(admin, invitation)
    key, _ = api_keys.create_key(alice, name="owner's")
    browser = browser_of(admin)
    assert browser.post(f"/settings/keys/{key.pk}/rotate/").status_code == 403
    assert browser.post(f"/settings/keys/{key.pk}/revoke/").status_code == 302


def test_the_board_shows_first_who_needs_a_look_among_more_than_it_shows(alice: Access) -> None:
    normal = Teammate.objects.get(organization=alice.organization, key="normal")
    Teammate.objects.bulk_create(
        Teammate(
            organization=alice.organization,
            key=f"m{n}",
            name=f"Mate {n}",
            version=None,
            visibility=normal.visibility,
        )
        for n in range(activity.MOST_ROWS + 10)
    )
    made = Teammate.objects.filter(organization=alice.organization, key__startswith="m").last()
    runs = [make_run(alice) for _ in range(3)]
    Run.objects.filter(pk=runs[0].pk).update(teammate=made, status=RunStatus.PAUSED)
    rows = activity.rows(alice)
    assert len(rows) == activity.MOST_ROWS
    assert (rows[0].teammate, rows[0].run, rows[0].doing) == (made, runs[0], "Paused")
    assert (rows[1].teammate, rows[1].run, rows[1].more) == (normal, runs[2], 1)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/runs/",
        "/threads/",
        "/teammates/",
        "/files/",
        "/needs-you/",
        "/usage/",
        "/settings/audit/",
        "/settings/keys/",
        "/settings/members/",
        "/settings/end-users/",
        "/settings/models/",
        "/search/?q=plain",
    ],
)
def test_a_page_asks_the_database_as_often_for_one_row_as_for_twenty(
    alice: Access, path: str
) -> None:
    browser, counts = browser_of(alice), []
    for times in (1, 8):
        for n in range(times):
            run = make_run(alice, status=RunStatus.COMPLETED)
            files.write_file(run.thread, name="plain.txt", content=b"1")
            api_keys.create_key(alice, name="k")
            editing.create_teammate(alice, name=f"Mate {times} {n}")
            make_bob(alice, email=f"bob-{times}-{n}@example.com")
            end_users.create_end_user(alice, f"customer-{times}-{n}")
            browser.post(f"/threads/{run.thread_id}/star/", {"starred": "1"})
            make_run(alice)
            make_gate(alice)
        browser.get(path)
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(path).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1] < 26


@pytest.mark.parametrize(
    ("path", "module", "link"),
    [
        ("/teammates/?q=Copy", runs_teammates, r'<h2 class="cut">\s*<a\s+href="([^"]*)"'),
        ("/settings/skills/", knowledge_views, r'class="title" href="([^"]*)"'),
        ("/settings/keys/", keys_views, r"/settings/keys/(\d+)/revoke/"),
        ("/settings/memories/", knowledge_views, r"/settings/memories/(\d+)/forget/"),
        ("/files/", files_views, r'class="title" href="([^"]*)"'),
        ("/settings/end-users/", end_users_views, r"/settings/end-users/(\d+)/\""),
    ],
)
def test_each_list_goes_on_behind_its_last_row(
    alice: Access, monkeypatch: pytest.MonkeyPatch, path: str, module: Any, link: str
) -> None:
    monkeypatch.setattr(module, "PAGE_SIZE", 2)
    for n in range(5):
        editing.create_teammate(alice, name=f"Copy {n}")
        skills.add_skill(alice, name=f"Skill {n}", description="d", body="b")
        api_keys.create_key(alice, name="k")
        memories.add_memory(alice, f"Tea at {n}.", author=Author.PERSON)
        run = make_run(alice, status=RunStatus.COMPLETED)
        files.write_file(run.thread, name="a.txt", content=b"1")
        end_users.create_end_user(alice, f"customer-{n}")
    Teammate.objects.filter(name__in=["Copy 1", "Copy 3"]).update(display_order=1)
    browser, seen, at = browser_of(alice), list[str](), path
    for _ in range(6):
        page = browser.get(at).content.decode()
        seen += dict.fromkeys(re.findall(link, page))
        older = re.search(r'href="(\?[^"]*after=\d+[^"]*)"[^>]*>(?:Older|More)<', page)
        if older is None:
            break
        at = path.partition("?")[0] + unescape(older[1])
    assert len(seen) == len(set(seen)) >= 5


def test_another_address_of_a_model_server_loses_its_key(alice: Access) -> None:
    browser = browser_of(alice)
    for kind, address in (("openai_compatible", "http://127.0.0.1:9/v1"), ("anthropic", "")):
        catalog.connect(
            alice, kind=kind, name=kind, api_key="sk-secret", base_url=address, model=kind
        )
    mine = Provider.objects.filter(organization=alice.organization)
    ours, vendor = mine.get(name="openai_compatible"), mine.get(name="anthropic")
    for address in ("", "x" * 501, "ftp://127.0.0.1/"):
        browser.post(f"/settings/providers/{ours.pk}/address/", {"base_url": address})
    ours.refresh_from_db()
    assert (ours.base_url, ours.api_key) == ("http://127.0.0.1:9/v1", "sk-secret")
    browser.post(f"/settings/providers/{ours.pk}/address/", {"base_url": "http://127.0.0.1:10/v1"})
    browser.post(
        f"/settings/providers/{vendor.pk}/address/", {"base_url": "http://127.0.0.1:10/v1"}
    )
    ours.refresh_from_db()
    vendor.refresh_from_db()
    assert (ours.base_url, ours.api_key) == ("http://127.0.0.1:10/v1", "")
    assert (vendor.base_url, vendor.api_key) == ("", "sk-secret")


def test_a_preview_is_plain_words() -> None:
    words = plain("R&D: **a** < b\n\n- <script>x</script>")
    assert words == "R&D: a < b <script>x</script>"
    assert conditional_escape(words) == "R&amp;D: a &lt; b &lt;script&gt;x&lt;/script&gt;"


def test_a_thread_tells_only_what_is_new_in_it(alice: Access, bob: Access) -> None:
    first = make_run(alice, message="the first", status=RunStatus.COMPLETED)
    other = make_run(alice, message="the second", thread=first.thread, status=RunStatus.COMPLETED)
    third = make_run(alice, message="the third", thread=first.thread)
    path = f"/threads/{first.thread_id}/news/?after={first.pk}&known={other.pk}"
    news = browser_of(alice).get(path).content.decode()
    assert f'id="run-{third.pk}"' in news
    assert "the first" not in news
    assert "the second" not in news
    assert browser_of(bob).get(path).status_code == 404
