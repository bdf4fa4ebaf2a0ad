"""Whose mails are believed: what a mail server or a mail service proved about their sender."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client

from runs.inbox import gateway, receiving
from runs.inbox.parsing import read_head
from runs.inbox.sender_proof import NOBODY_VOUCHES, Hints
from runs.models import Firing, Run, SkipReason
from teammates.access import Access
from teammates.models import Teammate
from teammates.roster import editing
from tests.factories import browser_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def careful(settings: Any) -> None:
    settings.MAIL_BELIEVED = False
    settings.MAIL_AUTHSERV = "mx.example.org"


@pytest.fixture
def ops(alice: Access) -> Teammate:
    return editing.create_teammate(alice, name="Ops", email_inbox=True)


def raw(*results: str) -> bytes:
    heads = [f"Authentication-Results: {result}" for result in results]
    lines = [*heads, "From: Alice <alice@example.com>", "Message-ID: <1@x>", "", "Hello"]
    return "\r\n".join(lines).encode()


def why(message: bytes, **hints: Any) -> str:
    return read_head(message, Hints(trusted_server="mx.example.org", **hints)).why_unproven


@pytest.mark.parametrize(
    "result",
    [
        "mx.example.org; dmarc=pass header.from=example.com",
        "mx.example.org; spf=fail smtp.mailfrom=evil.test; dkim=pass header.d=example.com",
        "MX.example.org 1; spf=pass smtp.mailfrom=bounce@mail.example.com",
        "mx.example.org; dkim=pass (good; header.d=evil.test) header.i=@example.com",
    ],
)
def test_what_our_server_proved_is_believed(result: str) -> None:
    assert why(raw(result)) == ""


@pytest.mark.parametrize(
    "result",
    [
        "mx.example.org; dmarc=fail header.from=example.com",
        "mx.example.org; dmarc=none header.from=example.com",
        "mx.example.org; spf=pass smtp.mailfrom=mallory@evil.test",
        "mx.example.org; dkim=pass header.d=evil.test; spf=softfail smtp.mailfrom=example.com",
        "mx.example.org; dkim=pass header.d=notexample.com",
        "mx.example.org; dkim=pass header.d=com",
        "mx.example.org; none",
        "mx.example.org; dmarc=fail header.from=example.com; dmarc=pass header.from=example.com",
        "mx.example.org; dmarc=fail header.from=example.com; dkim=pass header.d=example.com",
        "mx.example.org; dmarc=fail header.from=example.com; dkim=pass header.d=sub.example.com",
        "mx.example.org; dmarc=fail header.from=example.com; spf=pass smtp.mailfrom=a.example.com",
        "mx.example.org; dmarc=fail; dkim=pass header.d=example.com",
        "mx.example.org; dkim=pass header.d=evil.test header.d=example.com",
    ],
)
def test_what_failed_is_not(result: str) -> None:
    assert "failed the check" in why(raw(result))


def test_the_page_says_whom_mails_are_believed(alice: Access, settings: Any) -> None:
    def said() -> str:
        return " ".join(browser_of(alice).get("/settings/mail/").content.decode().split())

    assert "<code>mx.example.org</code>" in said()
    settings.MAIL_AUTHSERV = ""
    assert "so they start nothing" in said()
    settings.MAIL_BELIEVED = True
    assert "Muster believes what a mail says" in said()


def test_what_the_sender_says_of_itself_counts_for_nothing() -> None:
    forged = "mx.evil.test; dmarc=pass header.from=example.com"
    assert why(raw(forged)) == NOBODY_VOUCHES
    assert why(raw()) == NOBODY_VOUCHES
    ours = "mx.example.org; dmarc=fail header.from=example.com"
    below = "mx.example.org; dmarc=pass header.from=example.com"
    assert "failed" in why(raw(ours, below))
    assert why(raw("((((;;; nonsense", below)) == NOBODY_VOUCHES


def test_without_a_proof_nothing_starts_and_the_log_says_why(ops: Teammate) -> None:
    got = receiving.receive(ops.email_address or "", receiving.Inbound(raw()))
    assert isinstance(got, Firing)
    assert (got.run, got.reason, got.detail) == (None, SkipReason.SENDER, NOBODY_VOUCHES)
    proven = raw("mx.example.org; dmarc=pass header.from=example.com")
    got = receiving.receive(ops.email_address or "", receiving.Inbound(proven))
    assert isinstance(got, Firing)
    assert got.run is not None


def test_an_operator_may_say_that_mails_are_checked_elsewhere(ops: Teammate, settings: Any) -> None:
    settings.MAIL_BELIEVED = True
    got = receiving.receive(ops.email_address or "", receiving.Inbound(raw()))
    assert isinstance(got, Firing)
    assert got.run is not None


def hand_over(alice: Access, fields: dict[str, Any] | str) -> Any:
    path = f"/api/v1/mail/{gateway.make_token(alice)}"
    if isinstance(fields, str):
        return Client().post(path, fields, content_type="application/json")
    form = "application/x-www-form-urlencoded"
    return Client().post(path, urlencode(fields), content_type=form)


def forms(to: str, *, is_proven: bool) -> list[dict[str, Any] | str]:
    word = "Pass" if is_proven else "Fail"
    text = raw().decode()
    return [
        {"recipient": to, "sender": "alice@example.com", "body-mime": text, "X-Mailgun-Spf": word},
        {
            "email": text,
            "envelope": json.dumps({"to": [to], "from": "a@example.com"}),
            "SPF": word.lower(),
            "dkim": "none",
        },
        {
            "email": text,
            "envelope": json.dumps({"to": [to], "from": "a@evil.test"}),
            "SPF": "pass",
            "dkim": f"{{@example.com : {word.lower()}}}",
        },
        json.dumps(
            {
                "RawEmail": text,
                "OriginalRecipient": to,
                "Headers": [
                    {"Name": "Received-SPF", "Value": f"{word} (x); envelope-from=a@example.com"}
                ],
            }
        ),
    ]


@pytest.mark.parametrize("service", range(4), ids=["mailgun", "spf", "dkim", "postmark"])
def test_mail_services_vouch_in_their_own_fields(
    alice: Access, ops: Teammate, service: int
) -> None:
    to = ops.email_address or ""
    assert hand_over(alice, forms(to, is_proven=False)[service]).status_code == 200
    assert not Run.objects.exists()
    assert hand_over(alice, forms(to, is_proven=True)[service]).status_code == 200
    assert Run.objects.count() == 1
