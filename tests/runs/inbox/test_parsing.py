"""Reading mails: whatever arrives is read as far as it can be, and never raises."""

from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runs.inbox.parsing import LARGEST_ATTACHMENT, MOST_ATTACHMENTS, read_email
from runs.inbox.sender_proof import Hints


def letter(**headers: str) -> EmailMessage:
    message = EmailMessage()
    given = {"From": "Kim <kim@example.com>", "Subject": "Hello", "Message-ID": "<1@example.com>"}
    for name, value in (given | {k.replace("_", "-"): v for k, v in headers.items()}).items():
        message[name] = value
    message.set_content("Good morning.\n")
    return message


def test_what_matters_of_a_mail() -> None:
    found = read_email(letter(In_Reply_To="<0@x>", References="<a@x> <b@x>").as_bytes())
    assert (found.sender, found.sender_name) == ("kim@example.com", "Kim")
    assert (found.subject, found.text, found.message_id) == (
        "Hello",
        "Good morning.",
        "<1@example.com>",
    )
    assert found.references == ("<0@x>", "<b@x>", "<a@x>")
    assert found.why_automatic == ""


def test_html_alone_becomes_text() -> None:
    message = letter()
    message.set_content("<style>p{}</style><p>Good <b>day</b></p>", subtype="html")
    assert read_email(message.as_bytes()).text == "Good\nday"


def test_text_is_preferred_to_html() -> None:
    message = letter()
    message.add_alternative("<p>never this</p>", subtype="html")
    assert read_email(message.as_bytes()).text == "Good morning."


def test_quoted_mails_are_cut_from_answers() -> None:
    message = letter()
    message.set_content("Yes, do it.\n\nOn Mon, 3 Mar 2026 at 09:00, Ops wrote:\n> Shall I?\n")
    found = read_email(message.as_bytes())
    assert found.new_text == "Yes, do it."
    assert "Shall I?" in found.text


def test_files_have_flat_names() -> None:
    message = letter()
    message.add_attachment(b"1", maintype="text", subtype="csv", filename="../a/report.csv")
    message.add_attachment(b"2", maintype="image", subtype="png")
    inner = letter(Subject="Inner")
    inner.add_attachment(b"3", maintype="application", subtype="pdf", filename="no.pdf")
    message.add_attachment(inner)
    found = read_email(message.as_bytes()).attachments
    assert [one.name for one in found] == ["report.csv", "attachment-2.png", "attachment-3.eml"]
    assert found[0].content == b"1"
    assert b"Subject: Inner" in found[2].content


def test_what_is_too_large_or_too_many_is_named() -> None:
    message = letter()
    for number in range(MOST_ATTACHMENTS + 1):
        message.add_attachment(b"x", maintype="text", subtype="plain", filename=f"{number}.txt")
    large = b"x" * (LARGEST_ATTACHMENT + 1)
    message.add_attachment(large, maintype="text", subtype="plain", filename="large.txt")
    found = read_email(message.as_bytes())
    assert len(found.attachments) == MOST_ATTACHMENTS
    assert found.dropped == ("20.txt", "large.txt")


@pytest.mark.parametrize(
    "headers",
    [
        {"Auto-Submitted": "auto-replied"},
        {"Auto-Submitted": "auto-generated"},
        {"Precedence": "bulk"},
        {"X-Autoreply": "yes"},
        {"X-Loop": "ops@x"},
        {"Return-Path": "<>"},
        {"Content-Type": "multipart/report; report-type=delivery-status; boundary=x"},
    ],
)
def test_what_a_machine_sent_in_answer_is_recognised(headers: dict[str, str]) -> None:
    text = "".join(f"{name}: {value}\n" for name, value in headers.items())
    raw = f"From: kim@example.com\nSubject: Out of office\n{text}\nI am away."
    assert read_email(raw.encode()).why_automatic
    assert read_email(letter().as_bytes(), Hints(envelope_sender="")).why_automatic
    assert not read_email(letter(Auto_Submitted="no").as_bytes()).why_automatic


def test_a_mail_that_was_passed_on_for_ever_is_a_loop() -> None:
    raw = "Received: from a by b\n" * 60 + "From: kim@example.com\n\nAgain."
    assert read_email(raw.encode()).why_automatic


@pytest.mark.parametrize(
    "sender",
    [
        "",
        "nobody",
        "a@b.c, d@e.f",
        "undisclosed:;",
        "alice@example.com]eve@evil.com",
        '"Alice" <alice@example.com> <eve@evil.com>',
        "Alice <alice@example.com>eve@evil.com",
        "alice@example.com\nFrom: eve@evil.com",
        "alice@example.com eve@evil.com",
        "<@>",
        "=?utf-8?q?alice=40example.com?= eve@evil.com",
    ],
)
def test_no_sender_or_several_are_none(sender: str) -> None:
    assert read_email(f"From: {sender}\n\nx".encode()).sender == ""


@pytest.mark.parametrize(
    "text",
    [
        "On " * 130_000,
        "On Monday it rained.\n" * 20_000,
        ">" * 400_000,
        "on:" * 100_000 + "\nOn",
    ],
)
def test_no_text_takes_long_to_read(text: str) -> None:
    """Time is not measured: a slow reader would run into the limit of the tests."""
    message = letter()
    message.set_content(text)
    assert read_email(message.as_bytes()).new_text


PIECES = st.sampled_from(
    [
        b"From: kim@example.com\r\n",
        b"Subject: =?utf-8?b?////?=\r\n",
        b"\r\n",
        b"--x\r\n",
        b"--x--",
        b"Content-Type: multipart/mixed; boundary=x\r\n",
        b"Content-Type: text/plain; charset=none\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Disposition: attachment; filename=..\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Message-ID: <\xff>\r\n",
        b"\x00\xff\xfe",
        b"QUJD",
        b'From: "a\r\n b" <@>\r\n',
        b"References: <a> <b\r\n",
        b"Content-Type: text/html\r\n<p>",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(PIECES, st.binary(max_size=30)), max_size=25))
def test_broken_mails_are_read_as_far_as_they_can_be(pieces: list[bytes]) -> None:
    found = read_email(b"".join(pieces))
    assert "\x00" not in found.text + found.subject + found.sender
    for one in found.attachments:
        assert "/" not in one.name
        assert one.name.isprintable()
