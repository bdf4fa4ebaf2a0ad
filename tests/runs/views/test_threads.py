"""Threads: starred, forked, edited while they wait, stopped for what is more urgent."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from runs.creation import conversation, retries
from runs.execution import context
from runs.models import Run, RunStatus
from runs.queries import thread_lists
from runs.queries.search import search
from teammates.access import Access
from teammates.errors import Conflict, Forbidden, Invalid
from teammates.models import Role
from teammates.providers.base import UserMessage
from tests.factories import bring_to, make_bob, make_eve, make_run, make_thread
from threads import conversations, files
from threads.models import File


@pytest.fixture
def client(alice: Access) -> Client:
    browser = Client()
    assert alice.user is not None
    browser.force_login(alice.user)
    return browser


def test_a_fork_has_what_was_said_and_the_files_and_goes_its_own_way(alice: Access) -> None:
    first = make_run(alice, message="What is one?", status=RunStatus.COMPLETED)
    files.write_file(first.thread, name="a.txt", content=b"1")
    make_run(alice, message="And two?", thread=first.thread, status=RunStatus.COMPLETED)
    fork = conversation.fork_thread(alice, first)
    assert [m.content for m in fork.messages.order_by("pk")] == ["What is one?", "An answer."]
    assert files.find_file(fork, "a.txt") is not None
    run = make_run(alice, message="Go on", thread=fork)
    told = [said.text for said in context.conversation(run, UserMessage("Go on"), [])]  # type: ignore[union-attr]
    assert told == ["What is one?", "An answer.", "Go on"]
    assert first.thread.messages.count() == 4


def test_a_waiting_message_is_edited_until_a_worker_takes_it(alice: Access) -> None:
    run = make_run(alice, message="frist")
    assert conversation.edit_queued(alice, run, "first").prompt.content == "first"  # type: ignore[union-attr]
    with pytest.raises(Invalid):
        conversation.edit_queued(alice, run, "  ")
    bring_to(run, RunStatus.RUNNING)
    with pytest.raises(Conflict):
        conversation.edit_queued(alice, run, "too late")
    with pytest.raises(Forbidden):
        conversation.edit_queued(make_bob(alice, role=Role.VIEWER), run, "x")


def test_an_edit_of_a_retry_leaves_the_words_of_what_was_tried(alice: Access) -> None:
    failed = make_run(alice, message="as it was", status=RunStatus.FAILED)
    again, _ = retries.retry_run(alice, failed, confirm=True)
    conversation.edit_queued(alice, again, "better")
    failed.refresh_from_db()
    again.refresh_from_db()
    assert failed.prompt is not None
    assert again.prompt is not None
    assert (failed.prompt.content, again.prompt.content) == ("as it was", "better")


def test_send_now_stops_what_is_ahead_and_nothing_behind(alice: Access) -> None:
    thread = make_thread(alice)
    runs = [make_run(alice, message=f"m{n}", thread=thread) for n in range(4)]
    bring_to(runs[0], RunStatus.RUNNING)
    conversation.stop_others(alice, runs[2])
    states = [Run.objects.get(pk=run.pk) for run in runs]
    assert states[0].cancel_requested_at is not None
    assert [run.status for run in states[1:]] == ["cancelled", "queued", "queued"]
    with pytest.raises(Conflict):
        conversation.stop_others(alice, states[0])


def test_a_form_that_is_sent_twice_makes_one_run(client: Client, alice: Access) -> None:
    form = {"message": "once", "once": "token"}
    first = client.post("/threads/new/", form)["Location"]
    assert client.post("/threads/new/", form)["Location"] == first
    assert client.post("/threads/new/", form | {"message": "other"})["Location"] != first
    assert client.post(f"{first}send/", form).status_code == 302
    assert Run.objects.count() == 3


def test_files_come_with_a_message(client: Client, alice: Access) -> None:
    given = SimpleUploadedFile("notes.txt", b"words")
    client.post("/threads/new/", {"message": "read it", "files": given})
    file = File.objects.get(name="notes.txt")
    assert file.run_files.get().is_attachment
    page = client.get(f"/files/{file.uid}/view/").content.decode()
    assert "words" in page
    assert client.post(f"/files/{file.uid}/delete/").status_code == 302
    assert not File.objects.exists()


def test_stars_groups_and_states_are_in_the_list(
    client: Client, alice: Access, bob: Access
) -> None:
    run = make_run(alice, message="find me", status=RunStatus.COMPLETED)
    make_run(bob, message="not mine")
    (thread,) = thread_lists.newest(alice)
    assert (thread.status, thread.is_new) == ("completed", True)  # type: ignore[attr-defined]
    client.get(f"/threads/{run.thread_id}/")
    (thread,) = thread_lists.newest(alice)
    assert not thread.is_new  # type: ignore[attr-defined]
    conversations.star_thread(alice, thread, starred=True)
    page = client.get("/threads/").content.decode()
    assert "Starred" in page
    assert "not mine" not in page


@pytest.mark.parametrize(
    "words",
    [
        "bob@example.com",
        "report.csv",
        "3.14",
        "Überweisung",
        "uberx",
        "invoi",
        "mails bob",
    ],
)
def test_search_finds_words_as_people_write_them(alice: Access, words: str) -> None:
    text = "The invoice in report.csv, 3.14 of it, mails to bob@example.com: Überweisung uberx"
    run = make_run(alice, message=text)
    files.write_file(run.thread, name="report-2.csv", content=b"x")
    found = search(alice, words)
    assert [thread.pk for thread, _ in found.threads] == [run.thread_id]
    assert [one.pk for one in found.runs] == [run.pk]
    assert not search(make_eve(), words)
    assert not search(make_bob(alice, email="kim@example.com"), words)


def test_what_was_found_is_marked_and_nothing_else_is_html(alice: Access) -> None:
    make_run(alice, message="<b>bold</b> fox & hound")
    ((_, around),) = search(alice, "fox").threads
    assert around == "bold <mark>fox</mark> &amp; hound"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"a,b\r1,2\r"),
        ("b.csv", b'"' + b"x" * 140_000),
        ("c.json", b'"\\ud800"'),
        ("d.json", b"[" * 100_000),
        ("e.bin", b"\x00\xff"),
        ("f.md", b"# Hi\n<script>x</script>"),
        ("g.html", b"<script>alert(1)</script>"),
        ("h.csv", b""),
        ("i.txt", b"x" * 300_000),
    ],
)
def test_every_file_has_a_page(client: Client, alice: Access, name: str, content: bytes) -> None:
    run = make_run(alice)
    file = files.write_file(run.thread, name=name, content=content)
    other = files.write_file(run.thread, name=name, content=content + b"!")
    page = client.get(f"/files/{file.uid}/view/")
    assert page.status_code == 200
    assert b"<script>x" not in page.content
    assert b"<script>alert" not in page.content
    assert client.get(f"/files/{other.uid}/view/?compare=1").status_code == 200
    assert client.get("/files/").status_code == 200


def test_a_generated_page_can_do_nothing(client: Client, alice: Access) -> None:
    run = make_run(alice)
    file = files.write_file(run.thread, name="p.html", content=b"<script>alert(1)</script>")
    answer = client.get(f"/files/{file.uid}/page/")
    assert answer["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    stranger = Client()
    eve = make_eve().user
    assert eve is not None
    stranger.force_login(eve)
    assert stranger.get(f"/files/{file.uid}/page/").status_code == 404
