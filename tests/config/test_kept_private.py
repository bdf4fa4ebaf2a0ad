"""What is stored is read with its key alone, and files are this server's own."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.test import Client

from config import data_folder
from teammates import connections, encryption, fields
from teammates.access import Access
from teammates.errors import Unavailable
from teammates.models import Provider
from tests.factories import browser_of, make_thread
from threads import files

pytestmark = pytest.mark.django_db


def use_keys(settings: Any, keys: str) -> None:
    settings.ENCRYPTION_KEY = keys
    fields._fernet.cache_clear()


@pytest.fixture
def provider(alice: Access, settings: Any) -> Any:
    use_keys(settings, "old")
    yield connections.create_provider(
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
