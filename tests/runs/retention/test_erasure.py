"""What is forgotten: closed accounts, and what was said where only numbers are kept."""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import connection
from django.test import Client
from django.utils import timezone

from runs.creation import retries
from runs.inbox import receiving
from runs.lifecycle import endings
from runs.models import (
    Firing,
    Lesson,
    Mail,
    Run,
    RunFile,
    RunStatus,
    SkipReason,
    Task,
    Trigger,
    UsageDay,
    WebhookEndpoint,
)
from runs.retention import cleanup, closed_accounts, erased_end_users, erasure, export
from runs.tasks import lessons, tasks
from runs.triggers import definitions, scheduler
from runs.webhooks import endpoints
from teammates.access import Access, access_of_member
from teammates.errors import Conflict, Forbidden, NotSignedIn
from teammates.fields import hash_secret
from teammates.integrations import tool_policies
from teammates.knowledge import documents, memories, skills
from teammates.models import AuditEntry, Organization, RefreshToken, Teammate, TeammateVersion, User
from teammates.people import api_keys, end_users, members, organizations, sessions
from teammates.roster import channels, editing, lookup
from tests import factories
from tests.factories import LETTER, browser_of, make_gate, make_key, make_run
from threads import conversations, files
from threads.models import File, Message, Thread


def with_everything(access: Access) -> Run:
    """A run with a file, an answer, a task that learned, and what teammates know."""
    agent = editing.create_teammate(access, name="Ada")
    task = tasks.create_task(access, agent, instructions="x")
    schedule = definitions.add_schedule(access, task, interval_seconds=3600)
    endpoints.add_endpoint(access, url="https://example.com", events=["run.started"])
    scheduler.schedule_next()
    scheduler.fire_due(schedule.starts_at + timedelta(hours=1))
    agent = channels.set_fetchmail(access, agent, enabled=True)
    inbound = receiving.Inbound(b"From: kim@example.com\n\nThe secret plan")
    receiving.receive(agent.fetchmail_address or "", inbound)
    Lesson.objects.create(task=task, text="x", last_reaffirmed_at=timezone.now())
    memories.add_memory(access, "x", teammate=agent)
    documents.write_document(access, name="x", content="x", teammate=agent)
    run = make_run(access, message="the secret plan", teammate=agent, status=RunStatus.COMPLETED)
    file = files.write_file(run.thread, name="plan.md", content=b"the secret plan")
    RunFile.objects.create(run=run, file=file)
    make_gate(access)
    # A run's end checks keys at once for the rest of its transaction, which here is the test's.
    connection.check_constraints()
    return run


def test_a_closed_account_is_erased_after_its_time_and_no_other(
    alice: Access, eve: Access, django_capture_on_commit_callbacks: object
) -> None:
    with_everything(alice)
    theirs = with_everything(eve)
    key = make_key(alice)
    stored = File.objects.get(thread__organization=alice.organization).stored_as
    closed_accounts.close_account(alice)
    with pytest.raises(NotSignedIn):
        api_keys.access_of_bearer(key)
    assert closed_accounts.erase_closed() == 0
    Organization.objects.filter(pk=alice.organization.pk).update(
        closed_at=timezone.now() - timedelta(days=31)
    )
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        assert closed_accounts.erase_closed() == 1
    assert closed_accounts.erase_closed() == 0
    assert not default_storage.exists(stored)
    assert not User.objects.filter(email="alice@example.com").exists()
    assert list(Organization.objects.all()) == [eve.organization]
    assert theirs in Run.objects.all()
    assert not Thread.objects.exclude(organization=eve.organization).exists()


def test_who_belongs_to_another_organization_too_stays(alice: Access, eve: Access) -> None:
    from teammates.models import Membership

    assert alice.user is not None
    Membership.objects.create(organization=eve.organization, user=alice.user, role="member")
    closed_accounts.close_account(alice)
    Organization.objects.filter(pk=alice.organization.pk).update(
        closed_at=timezone.now() - timedelta(days=31)
    )
    assert closed_accounts.erase_closed() == 1
    assert User.objects.filter(email="alice@example.com").exists()


def test_what_somebody_left_elsewhere_is_not_the_organizations_own_once_they_are_erased(
    alice: Access, eve: Access
) -> None:
    from teammates.models import Membership

    eve_at_alices = Membership.objects.create(
        organization=alice.organization, user=eve.user, role="member"
    )
    hers = access_of_member(eve_at_alices.user, str(alice.organization.uid))
    assert hers is not None
    agent = editing.create_teammate(alice, name="Ada")
    schedule = definitions.add_schedule(
        hers, tasks.create_task(hers, agent, instructions="x"), interval_seconds=3600
    )
    members.remove_member(alice, eve_at_alices)
    closed_accounts.close_account(eve)
    Organization.objects.filter(pk=eve.organization.pk).update(
        closed_at=timezone.now() - timedelta(days=31)
    )
    assert closed_accounts.erase_closed() == 1
    assert not User.objects.filter(email="eve@example.com").exists()
    scheduler.schedule_next()
    scheduler.fire_due(schedule.starts_at + timedelta(hours=1))
    left = Firing.objects.get()
    assert (left.reason, left.run) == (SkipReason.REFUSED, None)


def test_only_the_owner_closes_and_exports(alice: Access) -> None:
    bob = factories.make_bob(alice, role="admin")
    with pytest.raises(Forbidden):
        closed_accounts.close_account(bob)
    with pytest.raises(Forbidden):
        list(export.sections(bob))


def test_where_numbers_alone_are_kept_words_go_and_numbers_stay(
    alice: Access, django_capture_on_commit_callbacks: object
) -> None:
    run = with_everything(alice)
    step = run.steps.create(
        number=9, kind="tools", attempt=1, first_seq=1, started_at=timezone.now()
    )
    media = [{"name": "secret.png", "kind": "picture", "file_id": 1}]
    call = run.tool_calls.create(step=step, number=0, name="read_file", media=media)
    other = make_gate(alice, arguments=LETTER).run
    before = (UsageDay.objects.count(), run.status, run.input_tokens)
    Run.objects.filter(pk=run.pk).update(finished_at=timezone.now() - timedelta(minutes=3))
    organizations.update_settings(alice, retention_mode="metadata_only")
    assert erasure.erase_said() == 0  # what was said before stays
    Organization.objects.update(metadata_only_since=run.created_at)
    Run.objects.filter(pk=run.pk).update(finished_at=timezone.now())
    assert erasure.erase_said() == 0  # its readers are still served
    Run.objects.filter(pk=run.pk).update(finished_at=timezone.now() - timedelta(minutes=3))
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        assert erasure.erase_said() == 1
    assert erasure.erase_said() == 0
    run = Run.objects.get(pk=run.pk)
    assert (UsageDay.objects.count(), run.status, run.input_tokens) == before
    assert run.erased_at is not None
    assert "secret" not in "".join(
        Message.objects.filter(thread=run.thread).values_list("content", flat=True)
    )
    assert not File.objects.filter(thread=run.thread).exists()
    call.refresh_from_db()
    assert call.media == []
    assert set(run.events.values_list("type", flat=True)) <= set(erasure.KEPT_EVENTS)
    assert other.events.filter(type="run.waiting_for_input").exists()
    client = Client(headers={"Authorization": f"Bearer {make_key(alice)}"})
    shown = client.get(f"/api/v2/runs/{run.pk}").json()
    assert (shown["retention_mode"], shown["is_expired"]) == ("metadata_only", True)
    assert "secret" not in str(client.get(f"/api/v2/runs/{run.pk}/messages").json())
    for page in (f"/v1/runs/{run.uid}", f"/api/v2/runs/{run.pk}/outcome"):
        assert client.get(page).status_code == 200
    client.force_login(alice.user)
    assert client.get(f"/runs/{run.pk}/").status_code == 200
    assert client.get(run.thread.get_absolute_url()).status_code == 200


def test_what_still_works_in_a_thread_keeps_its_words(alice: Access) -> None:
    organizations.update_settings(alice, retention_mode="metadata_only")
    run = make_run(alice, message="keep me", status=RunStatus.FAILED)
    Run.objects.filter(pk=run.pk).update(finished_at=timezone.now() - timedelta(minutes=3))
    again = retries.retry_run(alice, run)[0]
    assert erasure.erase_said() == 0
    endings.cancel_run(again)
    assert erasure.erase_said() == 1
    run.refresh_from_db()
    with pytest.raises(Conflict, match="words are kept"):
        retries.retry_run(alice, run)


def test_the_home_of_an_installation_is_not_closed(alice: Access) -> None:
    Organization.objects.update(is_home=True)
    alice.organization.refresh_from_db()
    with pytest.raises(Conflict):
        closed_accounts.close_account(alice)


def test_old_rows_are_forgotten(alice: Access) -> None:
    sessions.open_session(alice)
    sessions.open_session(alice)
    RefreshToken.objects.filter(pk=RefreshToken.objects.first().pk).update(  # type: ignore[union-attr]
        expires_at=timezone.now()
    )
    cleanup.forget_old()
    assert RefreshToken.objects.count() == 1


def test_an_export_has_no_secret_in_it(alice: Access) -> None:
    task = tasks.create_task(alice, lookup.default_teammate(alice), instructions="x")
    _, token = definitions.make_webhook(alice, task)
    endpoint = endpoints.add_endpoint(alice, url="https://example.com", events=["run.started"])
    rotated = endpoints.update_endpoint(alice, endpoint, rotate_secret=True)
    make_run(alice)
    document = {name: list(rows) for name, rows in export.sections(alice)}
    assert document["webhook_deliveries"]
    written = str(document)
    for secret in (endpoint.secret, rotated.secret, token, hash_secret(token)):
        assert secret not in written


def test_where_numbers_alone_are_kept_nothing_is_kept_of_what_came_to_nothing(
    alice: Access,
) -> None:
    agent = editing.create_teammate(alice, name="Ada", email_inbox=True)
    inbound = receiving.Inbound(
        b"From: alice@example.com\nSubject: The secret plan\nAuto-Submitted: yes\n\nx"
    )
    receiving.receive(agent.email_address or "", inbound)
    erasure.erase_said()
    assert "secret" in Firing.objects.get().received
    organizations.update_settings(alice, retention_mode="metadata_only")
    Organization.objects.update(metadata_only_since=timezone.now() - timedelta(days=1))
    erasure.erase_said()
    assert Firing.objects.get().received == ""


def test_logs_kept_mails_and_removed_webhooks_are_forgotten_in_their_time(
    alice: Access, settings: Any, tmp_path: Path
) -> None:
    settings.EMAIL_FILE_PATH = str(tmp_path)
    with_everything(alice)
    make_run(alice)
    endpoint = WebhookEndpoint.objects.get()
    endpoints.delete_endpoint(alice, endpoint)
    old, new = tmp_path / "old.log", tmp_path / "new.log"
    for file in (old, new):
        file.write_text("x")
    long_ago = timezone.now() - timedelta(days=31)
    os.utime(old, (long_ago.timestamp(), long_ago.timestamp()))
    cleanup.forget_old()
    assert Firing.objects.exists()
    assert endpoint.deliveries.exists()  # a run that ends right now may still write there
    assert (old.exists(), new.exists()) == (False, True)
    Firing.objects.update(created_at=long_ago)
    WebhookEndpoint.objects.update(deleted_at=timezone.now() - timedelta(days=2))
    cleanup.forget_old()
    assert not Firing.objects.exists()
    assert not WebhookEndpoint.objects.exists()


def test_an_end_user_is_erased_and_nobody_else(alice: Access, bob: Access) -> None:
    kim = end_users.find_or_create(alice, "kim")
    of_kim = replace(alice, end_user=kim)
    run = make_run(of_kim, message="kim has asthma", status=RunStatus.COMPLETED)
    file = files.write_file(run.thread, name="a.txt", content=b"kim has asthma")
    RunFile.objects.create(run=run, file=file)
    other = make_run(alice, message="another plan", status=RunStatus.COMPLETED)
    memories.add_memory(of_kim, "kim has asthma")
    end_users.update_end_user(alice, kim, name="Kim", email="kim@example.com")
    with pytest.raises(Forbidden):
        erased_end_users.erase_end_user(bob, kim)
    page = f"/settings/end-users/{kim.pk}/"
    assert "Erase everything" in browser_of(alice).get(page).content.decode()
    assert browser_of(alice).post(f"{page}erase/").status_code == 302
    assert not Run.objects.visible_to(of_kim).exists()
    later = make_run(replace(alice, end_user=kim), message="back", status=RunStatus.COMPLETED)
    assert erasure.erase_said() == 1
    kim.refresh_from_db()
    assert (kim.name, kim.email) == ("", "")
    assert "kim@example.com" not in str(list(AuditEntry.objects.values()))
    assert not Message.objects.filter(content__contains="asthma").exists()
    assert not kim.memories.exists()
    assert not File.objects.filter(pk=file.pk).exists()
    assert Message.objects.filter(content="another plan").exists()
    assert Run.objects.filter(pk__in=[other.pk, later.pk], erased_at=None).count() == 2


def test_what_an_erased_end_user_set_up_is_gone_too_and_starts_nothing(alice: Access) -> None:
    kim = end_users.find_or_create(alice, "kim")
    of_kim = replace(alice, end_user=kim)
    theirs = editing.create_teammate(
        of_kim, name="Asthma nurse", instructions="asthma", end_user=kim, metadata={"is": "asthma"}
    )
    channels.make_webhook(of_kim, theirs)
    task = tasks.create_task(of_kim, theirs, name="asthma", instructions="asthma", end_user=kim)
    schedule = definitions.add_schedule(of_kim, task, interval_seconds=3600)
    for text in ("asthma", "more asthma"):
        Lesson.objects.create(task=task, text=text, last_reaffirmed_at=timezone.now())
    lessons.forget_lesson(alice, task, str(task.lessons.values_list("pk", flat=True)[0]))
    gone = skills.add_skill(of_kim, name="asthma two", description="asthma", body="asthma")
    skills.delete_skill(alice, gone)
    policy, _ = tool_policies.allow_tool(of_kim, "send_mail", pattern={"to": "asthma@example.com"})
    tool_policies.revoke(of_kim, policy.pk)
    endpoint = endpoints.add_endpoint(of_kim, url="https://asthma.example.com")
    endpoints.delete_endpoint(alice, endpoint)
    Mail.objects.create(
        teammate=theirs,
        sender="k@example.com",
        subject="asthma",
        text="asthma",
        attachments=[],
        message_id="1",
    )
    skills.add_skill(of_kim, name="asthma", description="asthma", body="asthma")
    silent = conversations.create_thread(of_kim, title="asthma", end_user=kim)
    files.write_file(silent, name="asthma.txt", content=b"asthma")
    others = tasks.create_task(alice, editing.create_teammate(alice, name="Ada"), instructions="x")
    end_users.remove_profile(alice, kim)  # what stays then can be erased later
    page = f"/settings/end-users/{kim.pk}/"
    assert browser_of(alice).post(f"{page}erase/").status_code == 302
    erasure.erase_said()
    assert not Trigger.objects.filter(pk=schedule.pk).exists()
    theirs.refresh_from_db()
    assert (theirs.is_archived, theirs.hook_hash) == (True, "")
    for model in (Teammate, TeammateVersion, Task, Lesson, Mail, Thread, File, AuditEntry):
        assert "asthma" not in str(list(model.objects.values()))
    others.refresh_from_db()
    assert not others.is_archived


def test_what_a_deleted_thread_holds_besides_its_runs_is_erased(alice: Access) -> None:
    run = make_run(alice, message="plan", status=RunStatus.COMPLETED)
    files.write_file(run.thread, name="upload.txt", content=b"plan")
    conversations.delete_thread(alice, run.thread)
    erasure.erase_said()
    assert File.objects.filter(thread=run.thread).exists()
    Thread.objects.update(deleted_at=timezone.now() - timedelta(days=31))
    erasure.erase_said()
    assert not File.objects.filter(thread=run.thread).exists()
