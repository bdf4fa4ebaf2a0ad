"""What is stored is read with its key alone, and files are this server's own."""

import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.test import Client

from config import data_folder
from config.logs import OneLine
from teammates import encryption, fields
from teammates.access import Access
from teammates.errors import Unavailable
from teammates.llm import catalog
from teammates.models import Provider
from teammates.people import organizations, setup
from teammates.public_http import is_public
from tests.factories import browser_of, make_key, make_thread
from threads import files

pytestmark = pytest.mark.django_db


def use_keys(settings: Any, keys: str) -> None:
    settings.ENCRYPTION_KEY = keys
    fields._fernet.cache_clear()


@pytest.fixture
def provider(alice: Access, settings: Any) -> Any:
    use_keys(settings, "old")
    yield catalog.create_provider(
        alice, name="p", kind="openai", api_key="sk-test-0123456789", base_url="https://x.example"
    )
    fields._fernet.cache_clear()


def test_a_wrong_key_is_an_error_and_erases_nothing(provider: Provider, settings: Any) -> None:
    use_keys(settings, "wrong")
    assert not encryption.is_readable()
    with pytest.raises(Unavailable, match="MUSTER_ENCRYPTION_KEY"):
        Provider.objects.get(pk=provider.pk)
    with pytest.raises(CommandError, match="MUSTER_ENCRYPTION_KEY"):
        call_command("reencrypt")
    use_keys(settings, "old")
    assert Provider.objects.get(pk=provider.pk).api_key == "sk-test-0123456789"


def test_a_new_key_takes_over_all_that_is_stored(
    provider: Provider, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    use_keys(settings, "new,old")
    call_command("reencrypt")
    assert "1 secrets" in capsys.readouterr().out
    use_keys(settings, "new")
    assert encryption.is_readable()
    assert Provider.objects.get(pk=provider.pk).api_key == "sk-test-0123456789"


def test_files_are_nobody_elses_on_the_machine(alice: Access) -> None:
    file = files.write_file(make_thread(alice), name="a.txt", content=b"secret")
    stored, root = Path(default_storage.path(file.stored_as)), Path(default_storage.path(""))
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_a_folder_that_was_open_is_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUSTER_DATA", str(tmp_path))
    (tmp_path / "MUSTER").touch()
    os.mkdir(tmp_path / "files", 0o755)
    assert stat.S_IMODE(data_folder.private("files").stat().st_mode) == 0o700


@pytest.mark.parametrize("path", ["/", "/runs/", "/api/v2/docs", "/healthz", "/no-such-page"])
def test_head_is_answered_like_get(alice: Access, path: str) -> None:
    browser = browser_of(alice)
    got, head = browser.get(path), browser.head(path)
    assert head.status_code == got.status_code
    assert head.content == b""
    assert head["Content-Type"] == got["Content-Type"]


def test_browsers_and_search_engines_find_what_they_look_for() -> None:
    assert "Disallow: /" in Client().get("/robots.txt").content.decode()
    assert Client().get("/favicon.ico")["Location"].endswith("icon.svg")


# --- what is answered and written ---------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/settings/keys/",
        "/api/v2/runs",
        "/v1/runs",
        "/sign-in/",
        "/join/made-up/",
        "/verify/made-up/",
        "/decide/made-up/",
        "/reset/made-up/",
        "/setup/made-up/",
    ],
)
def test_no_cache_keeps_an_answer(alice: Access, path: str) -> None:
    assert browser_of(alice).get(path)["Cache-Control"] == "private, no-store"


def test_behind_https_browsers_come_back_encrypted_and_cookies_are_this_hosts() -> None:
    said = in_a_new_process(
        "from django.conf import settings as s; print(s.SECURE_HSTS_SECONDS > 86400 * 180, "
        "s.SESSION_COOKIE_NAME, s.CSRF_COOKIE_NAME, s.SESSION_COOKIE_SECURE)",
        MUSTER_PUBLIC_URL="https://muster.example",
    )
    assert said.split() == ["True", "__Host-sessionid", "__Host-csrftoken", "True"]


def in_a_new_process(code: str, **environment: str) -> str:
    import subprocess
    import sys

    return subprocess.run(
        [sys.executable, "-c", f"import django; django.setup(); {code}"],
        text=True,
        check=True,
        env=os.environ | environment | {"DJANGO_SETTINGS_MODULE": "config.settings"},
        capture_output=True,
    ).stdout


def test_a_download_is_never_a_script_and_only_images_say_what_they_are(alice: Access) -> None:
    thread = make_thread(alice)
    kinds = {}
    for name in ("a.js", "a.html", "a.css", "a.svg", "a.png", "a.txt"):
        file = files.write_file(thread, name=name, content=b"alert(1)")
        answer = browser_of(alice).get(f"/files/{file.uid}/")
        kinds[name] = answer["Content-Type"]
        assert "sandbox" in answer["Content-Security-Policy"]
        assert answer["Content-Disposition"].startswith("attachment")
    assert kinds == {
        "a.js": "application/octet-stream",
        "a.html": "application/octet-stream",
        "a.css": "application/octet-stream",
        "a.svg": "image/svg+xml",
        "a.png": "image/png",
        "a.txt": "application/octet-stream",
    }


def logged(message: str, *args: object, error: Exception | None = None) -> str:
    formatter = OneLine("%(levelname)s %(name)s %(message)s")
    info = (type(error), error, None) if error else None
    record = logging.LogRecord("muster", logging.WARNING, "", 0, message, args, info)  # type: ignore[arg-type]
    return formatter.format(record)


def test_a_strangers_words_forge_no_line_of_the_log() -> None:
    forged = logged("PATCH %s: no", "/users/a\n2026-01-01 INFO muster FORGED\x1b[2J\u2028x")
    assert len(forged.splitlines()) == 1
    assert "\x1b" not in forged
    assert "\\n2026" in forged
    assert "größer" in logged("%s", "größer")


@pytest.mark.parametrize(
    "path",
    [
        "/decide/SECRETTOKEN/",
        "/join/SECRETTOKEN/",
        "/setup/SECRETTOKEN/",
        "/verify/1-SECRETTOKEN/",
        "/reset/SECRETTOKEN:x/",
        "/shared/runs/SECRETTOKEN~x/a.txt",
        "/api/v1/mail/SECRETTOKEN",
        "/api/v1/webhooks/tasks/7/SECRETTOKEN",
    ],
)
def test_tokens_of_links_are_not_in_the_log(path: str) -> None:
    assert "SECRETTOKEN" not in logged("GET %s crashed", path)
    assert "SECRETTOKEN" not in logged("x", error=ValueError(f"no {path} here"))


@pytest.mark.parametrize(
    "address",
    [
        "192.0.0.192",
        "64:ff9b:1::1",
        "::7f00:1",
        "::ffff:0:7f00:1",
        "fec0::1",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "198.18.0.1",
        "::1",
        "::",
        "fd00::1",
        "fe80::1%eth0",
        "2001:db8::1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "::ffff:10.0.0.1",
        "2001::1",
        "3fff::1",
        "5f00::1",
    ],
)
def test_special_addresses_are_not_the_public_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "2606:4700::1111",
        "2a00:1450:4001::1",
        "64:ff9b::808:808",
        "2002:808:808::1",
        "::ffff:8.8.8.8",
        "192.0.1.1",
        "172.15.0.1",
        "172.32.0.1",
    ],
)
def test_public_addresses_are(address: str) -> None:
    assert is_public(address)


def test_how_the_installation_is_doing_is_for_who_runs_it(alice: Access, bob: Access) -> None:
    assert browser_of(alice).get("/status").status_code == 403
    alice.organization.is_home = True
    alice.organization.save()
    assert browser_of(alice).get("/status").status_code == 200
    assert browser_of(bob).get("/status").status_code == 403


# --- browsers of other hosts --------------------------------------------------------------------


def test_pages_of_other_hosts_use_the_apis_only_where_an_operator_names_them(
    alice: Access, settings: Any
) -> None:
    key = make_key(alice)
    theirs = {"origin": "https://app.example", "authorization": f"Bearer {key}"}
    assert "Access-Control-Allow-Origin" not in Client().get("/v1/runs", headers=theirs)
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example"]
    for path in ("/v1/runs", "/api/v2/runs"):
        answer = Client().get(path, headers=theirs)
        assert answer["Access-Control-Allow-Origin"] == "https://app.example"
        assert answer["Access-Control-Allow-Credentials"] == "true"
        assert "X-Trace-Id" in answer["Access-Control-Expose-Headers"]
    asked = theirs | {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, x-client-app, x-trace-id",
    }
    preflight = Client().options("/v1/threads", headers=asked)
    assert preflight.status_code == 200
    assert "POST" in preflight["Access-Control-Allow-Methods"]
    assert "x-client-app" in preflight["Access-Control-Allow-Headers"]
    other = Client().get("/v1/runs", headers=theirs | {"origin": "https://evil.test"})
    assert "Access-Control-Allow-Origin" not in other
    assert "Access-Control-Allow-Origin" not in Client().get("/sign-in/", headers=theirs)


# --- an installation that nobody has ------------------------------------------------------------


def test_an_address_that_is_not_set_up_says_where_its_owners_link_is(db: None) -> None:
    assert "Nobody has set this up yet" in Client().get("/sign-in/").content.decode()
    token = setup.make_setup_token(organizations.first_organization())
    assert "data-guess-timezone" in Client().get(f"/setup/{token}/").content.decode()


def test_a_set_up_address_greets(alice: Access) -> None:
    assert "Nobody has set this up yet" not in Client().get("/sign-in/").content.decode()
