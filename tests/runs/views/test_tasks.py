"""The pages of tasks: lists, the agenda, the editor with its preview, triggers, the log."""

import re
from datetime import date, timedelta
from typing import Any

import pytest
from django.forms.models import model_to_dict
from django.test import Client
from django.utils import timezone

from runs.models import Firing, PauseReason, Run, RunStatus, Task, TaskStatus, Trigger
from runs.tasks import tasks
from runs.triggers import definitions, scheduler
from teammates.access import Access
from teammates.errors import NotFound, Unsuitable
from teammates.models import Organization, Role, Teammate
from teammates.roster import channels, editing, webhook_tokens
from tests.factories import bring_to, browser_of, make_bob, make_eve

pytestmark = pytest.mark.django_db


def _next_spring() -> date:
    """The Sunday on which the clocks of Europe go forward, of next year."""
    last = date(timezone.now().year + 1, 3, 31)
    return last - timedelta(days=(last.weekday() + 1) % 7)


SPRING = _next_spring()
EVERY_DAY = {
    "kind": "day",
    "time": "09:30",
    "timezone": "Europe/Berlin",
    "overlap": "skip",
    "missed": "latest",
    "failure_limit": "5",
}


@pytest.fixture
def page(alice: Access) -> Client:
    return browser_of(alice)


@pytest.fixture
def ops(alice: Access) -> Teammate:
    return editing.create_teammate(alice, name="Ops")


@pytest.fixture
def task(alice: Access, ops: Teammate) -> Task:
    return tasks.create_task(alice, ops, name="Orders", instructions="Sort the orders.")


def text_of(response: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


# --- lists --------------------------------------------------------------------------------------


def test_the_list_shows_what_starts_a_task_and_how_it_went(
    page: Client, alice: Access, task: Task
) -> None:
    definitions.add_schedule(alice, task, cron="30 9 * * *", timezone="Europe/Berlin")
    scheduler.schedule_next()
    scheduler.fire_due(timezone.now() + timedelta(days=1))
    bring_to(Run.objects.get(), RunStatus.FAILED)
    shown = page.get("/tasks/")
    assert "Every day at 09:30 (Berlin)" in text_of(shown)
    assert 'class="dot failed"' in shown.content.decode()
    assert "Orders" in text_of(page.get("/tasks/?q=ord"))
    assert "No task matches" in text_of(page.get("/tasks/?q=nothing"))
    assert "No task matches" in text_of(page.get("/tasks/?state=disabled"))


def test_the_list_takes_the_same_queries_for_one_task_and_for_many(
    page: Client, alice: Access, task: Task, django_assert_num_queries: Any
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    def count() -> int:
        with CaptureQueriesContext(connection) as found:
            assert page.get("/tasks/").status_code == 200
        return len(found)

    definitions.add_schedule(alice, task, interval_seconds=60)
    count()
    one = count()
    for _ in range(8):
        copy = definitions.duplicate_task(alice, task)
        definitions.add_schedule(alice, copy, interval_seconds=60)
    assert count() == one


def test_the_agenda_names_what_is_due_and_what_clashes(
    page: Client, alice: Access, task: Task
) -> None:
    soon = timezone.now() + timedelta(hours=2)
    for _ in range(2):
        definitions.add_schedule(alice, task, run_at=soon.isoformat())
    definitions.add_schedule(alice, task, interval_seconds=60)
    shown = text_of(page.get("/tasks/agenda/"))
    assert shown.count("at the same time") == 2
    assert "All day long: Orders (every minute)" in shown


def test_the_log_shows_what_was_left_out_and_why(page: Client, alice: Access, task: Task) -> None:
    schedule = definitions.add_schedule(alice, task, interval_seconds=3600)
    scheduler.schedule_next()
    for hours in (1, 2):
        scheduler.fire_due(schedule.starts_at + timedelta(hours=hours))
    shown = text_of(page.get("/tasks/log/"))
    assert "a run of the task was still under way" in shown
    assert "a run of the task" not in text_of(page.get("/tasks/log/?show=started"))
    assert "Left out" in text_of(page.get(f"{task.get_absolute_url()}?tab=history"))


def test_nothing_of_it_exists_elsewhere(alice: Access, task: Task) -> None:
    definitions.add_schedule(alice, task, interval_seconds=3600)
    for other in (make_eve(), make_bob(alice)):
        theirs = browser_of(other)
        for path in ("/tasks/", "/tasks/agenda/", "/tasks/log/"):
            assert "Orders" not in text_of(theirs.get(path))
        assert theirs.get(task.get_absolute_url()).status_code == 404
        for path in ("act", "triggers", "lessons"):
            asked = theirs.post(f"{task.get_absolute_url()}{path}/", {"act": "archive"})
            assert asked.status_code in (302, 404)
    task.refresh_from_db()
    assert task.status == "enabled"


# --- making and changing ------------------------------------------------------------------------


def test_a_task_with_its_schedule_is_made_at_once(page: Client, ops: Teammate) -> None:
    made = page.post(
        "/tasks/new/",
        EVERY_DAY
        | {
            "teammate": ops.pk,
            "instructions": "Write what is new.",
            "scheduled": "1",
            "email_notifications": "on",
        },
    )
    task = Task.objects.saved().get()
    assert made["Location"] == task.get_absolute_url()
    assert (task.name, task.learns) == ("Write what is new.", False)
    assert task.triggers.get().cron == "30 9 * * *"


def test_a_wrong_schedule_makes_no_task(page: Client, ops: Teammate) -> None:
    wrong = {"kind": "cron", "cron": "61 * * * *", "scheduled": "1"}
    answer = page.post(
        "/tasks/new/",
        EVERY_DAY
        | wrong
        | {
            "teammate": ops.pk,
            "instructions": "Write what is new.",
        },
    )
    assert answer.status_code == 422
    assert "is not a schedule" in text_of(answer)
    assert "Write what is new." in answer.content.decode()
    assert not Task.objects.saved().exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"kind": "weekdays"}, {"cron": "30 9 * * 1-5"}),
        ({"kind": "week", "weekday": "0"}, {"cron": "30 9 * * 0"}),
        ({"kind": "month", "monthday": "3"}, {"cron": "30 9 3 * *"}),
        ({"kind": "hour", "minute": "5"}, {"cron": "5 * * * *"}),
        ({"kind": "interval", "minutes": "15"}, {"interval_seconds": 900}),
        ({"kind": "cron", "cron": "*/5 8-18 * * *"}, {"cron": "*/5 8-18 * * *"}),
    ],
)
def test_each_way_to_say_when_is_saved_and_said_again(
    page: Client, task: Task, given: dict[str, str], expected: dict[str, Any]
) -> None:
    path = f"/tasks/{task.pk}/schedules/"
    assert page.post(f"{path}new/", EVERY_DAY | given).status_code == 302
    trigger = task.triggers.get()
    for name, value in expected.items():
        assert getattr(trigger, name) == value
    form = page.get(f"{path}{trigger.pk}/").context["form"]
    assert form.initial["kind"] == given["kind"]
    assert page.post(f"{path}{trigger.pk}/", EVERY_DAY).status_code == 302
    trigger.refresh_from_db()
    assert trigger.cron == "30 9 * * *"


def posted(page: Client, path: str) -> dict[str, str]:
    """What a browser sends that saves the form as it is: without the fields that it hides."""
    form = page.get(path).context["form"]
    kind = form.initial["kind"]
    return {
        field.html_name: field.value()
        for field in form
        if kind in field.field.widget.attrs.get("data-for", kind).split()
        and field.value() is not None
    }


@pytest.mark.parametrize(
    "timing",
    [
        {"cron": "30 9 * * *"},
        {"interval_seconds": 100},
        {"interval_seconds": 3601},
        {"cron": "*/7 9-17 * * mon-fri"},
    ],
)
def test_saving_a_schedule_as_it_is_changes_nothing(
    page: Client, alice: Access, task: Task, timing: dict[str, Any]
) -> None:
    trigger = definitions.add_schedule(alice, task, timezone="US/Pacific", **timing)
    scheduler.schedule_next()
    path = f"/tasks/{task.pk}/schedules/{trigger.pk}/"
    trigger.refresh_from_db()
    before = model_to_dict(trigger)
    assert page.post(path, posted(page, path)).status_code == 302
    trigger.refresh_from_db()
    assert model_to_dict(trigger) == before
    other = posted(page, path) | {"overlap": "queue"}
    assert page.post(path, other).status_code == 302
    trigger.refresh_from_db()
    assert model_to_dict(trigger) == before | {"overlap": "queue"}


def test_an_instant_is_another_one_where_the_clock_is_another(
    page: Client, alice: Access, task: Task
) -> None:
    day = timezone.now() + timedelta(days=2)
    at = f"{day:%Y-%m-%d}T09:00:00"
    trigger = definitions.add_schedule(alice, task, run_at=f"{at}+00:00", timezone="Etc/UTC")
    path = f"/tasks/{task.pk}/schedules/{trigger.pk}/"
    shown = {"kind": "once", "at": at, "overlap": "skip", "missed": "latest", "failure_limit": "5"}
    before = trigger.armed_at
    assert page.post(path, shown | {"timezone": "Etc/UTC"}).status_code == 302
    trigger.refresh_from_db()
    assert trigger.armed_at == before
    assert page.post(path, shown | {"timezone": "Asia/Tokyo"}).status_code == 302
    trigger.refresh_from_db()
    assert trigger.run_at is not None
    assert f"{trigger.run_at:%H:%M}" == "00:00"


def test_fields_that_are_not_shown_may_say_anything(page: Client, task: Task) -> None:
    given = EVERY_DAY | {"minutes": "-5", "monthday": "99", "at": "never"}
    assert page.post(f"/tasks/{task.pk}/schedules/new/", given).status_code == 302
    assert task.triggers.get().cron == "30 9 * * *"


def test_once_is_an_instant_of_the_chosen_clock(page: Client, task: Task) -> None:
    day = timezone.now() + timedelta(days=2)
    given = EVERY_DAY | {"kind": "once", "at": f"{day:%Y-%m-%d}T09:00"}
    given["timezone"] = "Asia/Tokyo"
    assert page.post(f"/tasks/{task.pk}/schedules/new/", given).status_code == 302
    at = task.triggers.get().run_at
    assert at is not None
    assert (at.hour, at.minute) == (0, 0)
    past = page.post(f"/tasks/{task.pk}/schedules/new/", given | {"at": "2020-01-01T00:00"})
    assert past.status_code == 422
    assert "180 seconds" in text_of(past)


def test_the_preview_says_when_and_what_the_clocks_do(page: Client, task: Task) -> None:
    shown = text_of(page.post("/tasks/preview/", EVERY_DAY | {"task": task.pk}))
    assert "Every day at 09:30 (Berlin)" in shown
    assert len(re.findall(r"\b09:30", shown)) >= 10
    yearly = EVERY_DAY | {"kind": "cron", "cron": "30 2 * 3 0L"}
    assert "The clocks go forward" in text_of(page.post("/tasks/preview/", yearly))
    assert "Every minute (Berlin)" in text_of(
        page.post("/tasks/preview/", EVERY_DAY | {"kind": "cron", "cron": "* * * * *"})
    )
    often = {"kind": "interval", "minutes": "10", "email_notifications": "on"}
    assert "144 times in the next 24 hours, each with a mail" in text_of(
        page.post("/tasks/preview/", EVERY_DAY | often)
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "cron", "cron": "x"}, "Cron: &#x27;x&#x27; is not a schedule"),
        ({"timezone": "Mars/Base"}, "Timezone: "),
        ({"kind": "once", "at": "2020-01-01T00:00"}, "When At must be at least 180 seconds"),
        ({"kind": "once", "at": f"{SPRING}T02:30"}, "Clocks there are put forward over this time"),
        # In New York that night the hour exists; Berlin, the organization's own, has none such.
        (
            {"kind": "once", "at": f"{SPRING}T02:30", "timezone": "America/New_York"},
            f"Sun {SPRING.day}",
        ),
        ({"kind": "once", "at": "9999-12-31T23:59", "timezone": "America/New_York"}, "At must be"),
        ({"kind": "once", "at": "0001-01-01T00:00", "timezone": "Asia/Tokyo"}, "At must be"),
        ({"kind": "interval", "minutes": "0.5"}, "Minutes between two runs: "),
        ({"time": ""}, "The next times appear here."),
        ({"kind": "once", "at": ""}, "The next times appear here."),
    ],
)
def test_the_preview_says_what_is_wrong_and_waits_for_what_is_missing(
    page: Client, task: Task, wrong: dict[str, str], said: str
) -> None:
    Organization.objects.update(timezone="Europe/Berlin")
    answer = page.post("/tasks/preview/", EVERY_DAY | wrong)
    assert answer.status_code == 200
    assert said in text_of(answer)


def test_a_preview_of_nothing_shows_nothing(page: Client) -> None:
    assert "The next times appear here." in text_of(page.post("/tasks/preview/", {}))


def test_setup_saves_and_says_what_is_wrong(page: Client, task: Task) -> None:
    path = f"{task.get_absolute_url()}?tab=setup"
    assert page.post(path, {"name": "New name", "instructions": "x"}).status_code == 302
    task.refresh_from_db()
    assert (task.name, task.email_notifications) == ("New name", False)
    assert page.post(path, {"name": "x", "instructions": " "}).status_code == 422


# --- acts ---------------------------------------------------------------------------------------


def test_run_now_takes_words_along(page: Client, task: Task) -> None:
    asked = {"act": "run", "message": "Only today's."}
    assert page.post(f"/tasks/{task.pk}/act/", asked)["Location"].startswith("/threads/")
    prompt = Run.objects.get().prompt
    assert prompt is not None
    assert prompt.content == "Sort the orders.\n\nOnly today's."


def test_pause_resume_duplicate_archive(page: Client, alice: Access, task: Task) -> None:
    definitions.add_schedule(alice, task, interval_seconds=3600)
    for act, state in (("pause", "disabled"), ("resume", "enabled")):
        page.post(f"/tasks/{task.pk}/act/", {"act": act})
        task.refresh_from_db()
        assert task.status == state
    page.post(f"/tasks/{task.pk}/act/", {"act": "duplicate"})
    copy = Task.objects.saved().latest("id")
    assert (copy.name, copy.triggers.get().enabled) == ("Orders (copy)", False)
    page.post(f"/tasks/{task.pk}/act/", {"act": "archive"})
    task.refresh_from_db()
    assert task.is_archived
    assert page.get(task.get_absolute_url()).status_code == 200


def test_schedules_are_paused_woken_and_removed(page: Client, alice: Access, task: Task) -> None:
    schedule = definitions.add_schedule(alice, task, interval_seconds=3600)
    path, wire = f"/tasks/{task.pk}/triggers/", definitions.wire_id(schedule)
    page.post(path, {"act": "pause", "trigger": wire})
    assert not Trigger.objects.get().enabled
    page.post(path, {"act": "resume", "trigger": wire})
    assert Trigger.objects.get().enabled
    page.post(path, {"act": "delete", "trigger": wire})
    assert not Trigger.objects.exists()


@pytest.mark.parametrize("whose", ["task", "teammate"])
def test_the_webhook_is_shown_once_and_masked_after(
    page: Client, alice: Access, task: Task, ops: Teammate, whose: str
) -> None:
    row: Any = task if whose == "task" else ops
    act = f"/tasks/{task.pk}/triggers/" if whose == "task" else f"/teammates/{ops.pk}/reach/"
    seen = f"{row.get_absolute_url()}?tab=triggers"
    made = page.post(act, {"act": "hook_make"})
    live = re.search(r"http\S+/api/v1/webhooks/\w+/\d+/whk_[0-9a-f]{48}", made.content.decode())
    assert live
    again = page.get(seen).content.decode()
    assert live[0] not in again
    assert "****" in again
    assert (
        Client().post(live[0], '{"message": "x"}', content_type="application/json").json()["run_id"]
    )
    page.post(act, {"act": "hook_sample"})
    assert Firing.objects.filter(is_sample=True).count() == 1
    page.post(act, {"act": "hook_pause"})
    assert Client().post(live[0]).status_code == 409
    page.post(act, {"act": "hook_resume"})
    page.post(act, {"act": "hook_remove"})
    assert Client().post(live[0]).status_code == 404
    assert "Run" in text_of(page.get(seen))  # the log stays


def test_addresses_and_who_may_write(page: Client, task: Task, ops: Teammate) -> None:
    for act, row in ((f"/tasks/{task.pk}/triggers/", task), (f"/teammates/{ops.pk}/reach/", ops)):
        seen = f"{row.get_absolute_url()}?tab=triggers"
        page.post(act, {"act": "inbox_on"})
        assert "@muster.localhost" in text_of(page.get(seen))
        page.post(act, {"act": "inbox_senders", "senders": "kim@a.com, @b.com"})
        row.refresh_from_db()
        assert row.allowed_senders == ["kim@a.com", "@b.com"]
        page.post(act, {"act": "inbox_senders", "senders": "nonsense"})
        row.refresh_from_db()
        assert row.allowed_senders == ["kim@a.com", "@b.com"]
        page.post(act, {"act": "inbox_off"})
        assert "@muster.localhost" not in text_of(page.get(seen))
    page.post(f"/teammates/{ops.pk}/reach/", {"act": "mailbox_on"})
    ops.refresh_from_db()
    assert ops.fetchmail_address


def test_colleagues_do_not_read_what_came_to_a_shared_teammate(
    page: Client, alice: Access, ops: Teammate
) -> None:
    editing.update_teammate(alice, ops, visibility="organization")
    live = webhook_tokens.path("mates", ops.pk, channels.make_webhook(alice, ops))
    Client().post(live, '{"message": "The code is 4711"}', content_type="application/json")
    seen = f"{ops.get_absolute_url()}?tab=triggers"
    assert "4711" in text_of(page.get(seen))
    for role in (Role.MEMBER, Role.VIEWER):
        other = browser_of(make_bob(alice, role=role, email=f"{role}@example.com"))
        assert other.get(seen).status_code == 200
        assert "4711" not in text_of(other.get(seen))


def test_lessons_are_forgotten(page: Client, task: Task) -> None:
    for text in ("One", "Two", "Three"):
        task.lessons.create(text=text, last_reaffirmed_at=timezone.now())
    seen = f"{task.get_absolute_url()}?tab=lessons"
    assert "3 of 50" in text_of(page.get(seen))
    first = task.lessons.first()
    assert first is not None
    page.post(f"/tasks/{task.pk}/lessons/", {"lesson": first.pk})
    assert task.lessons.count() == 2
    page.post(f"/tasks/{task.pk}/lessons/")
    assert "No lessons yet" in text_of(page.get(seen))


def test_which_mails_one_gets_is_ones_own(page: Client, alice: Access) -> None:
    page.post("/settings/notifications/", {"mailed": ["needs_you", "message"]})
    shown = page.get("/settings/notifications/")
    off = [kind for kind, _, _, is_on in shown.context["kinds"] if not is_on]
    assert off == ["result", "trouble"]
    assert page.post("/settings/notifications/test/").status_code == 302


def test_an_archived_task_is_brought_back_paused(page: Client, alice: Access, task: Task) -> None:
    definitions.add_schedule(alice, task, interval_seconds=3600)
    act = f"/tasks/{task.pk}/act/"
    page.post(act, {"act": "archive"})
    assert "Restore" in text_of(page.get(task.get_absolute_url()))
    assert "Restored, and paused" in text_of(page.post(act, {"act": "restore"}, follow=True))
    task.refresh_from_db()
    assert (task.status, task.triggers.get().enabled) == (TaskStatus.DISABLED, False)
    with pytest.raises(Unsuitable):
        tasks.restore_task(alice, task)
    with pytest.raises(NotFound):
        tasks.restore_task(make_bob(alice), task)


def test_the_overview_says_why_something_rests(page: Client, alice: Access, task: Task) -> None:
    schedule = definitions.add_schedule(alice, task, interval_seconds=3600)
    Trigger.objects.filter(pk=schedule.pk).update(enabled=False, rests_because=PauseReason.FAILURES)
    shown = text_of(page.get(task.get_absolute_url()))
    assert "Every hour is paused: its last runs all failed." in shown
    tasks.update_task(alice, task, enabled=False)
    assert "Paused. Its schedules rest" in text_of(page.get(task.get_absolute_url()))
    Trigger.objects.filter(pk=schedule.pk).update(rests_because=PauseReason.OVER)
    assert "· done" in text_of(page.get("/tasks/"))


@pytest.mark.parametrize("of", ["task", "teammate"])
def test_a_wrong_sender_is_said_beside_what_was_typed(
    page: Client, alice: Access, task: Task, ops: Teammate, of: str
) -> None:
    definitions.open_inbox(alice, task, allowed_senders=None)
    channels.set_inbox(alice, ops, enabled=True)
    path = f"/tasks/{task.pk}/triggers/" if of == "task" else f"/teammates/{ops.pk}/reach/"
    answer = page.post(path, {"act": "inbox_senders", "senders": "kim@a.com, nonsense"})
    assert answer.status_code == 422
    assert 'value="kim@a.com, nonsense"' in answer.content.decode()
    assert "nonsense&#x27; is neither" in answer.content.decode()


def test_who_may_write_is_said_of_a_paused_task_too_and_switches_nothing_on(
    page: Client, alice: Access, task: Task
) -> None:
    inbox = definitions.open_inbox(alice, task, allowed_senders=None)
    tasks.update_task(alice, task, enabled=False)
    given = {"act": "inbox_senders", "senders": "kim@a.com"}
    assert page.post(f"/tasks/{task.pk}/triggers/", given).status_code == 302
    task.refresh_from_db()
    inbox.refresh_from_db()
    assert (task.allowed_senders, inbox.enabled) == (["kim@a.com"], False)
