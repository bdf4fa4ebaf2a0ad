"""Files of a thread, on whatever they are stored."""

import os
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import InMemoryStorage

from teammates.access import Access
from threads import conversations, files
from threads.models import File
from threads.storage import WholeFileStorage

pytestmark = pytest.mark.django_db


def test_a_storage_without_local_paths_is_as_good(alice: Access, monkeypatch: Any) -> None:
    monkeypatch.setattr(files, "default_storage", InMemoryStorage())
    thread = conversations.create_thread(alice)
    first = files.write_file(thread, name="a.txt", content=b"one")
    second = files.write_file(thread, name="a.txt", content=b"two")
    assert [files.read_file(one) for one in (first, second)] == [b"one", b"two"]
    files.delete_file(first)
    assert not files.default_storage.exists(first.stored_as)
    assert files.read_file(second) == b"two"


def test_the_storage_says_under_which_name_it_keeps_a_file(alice: Access, monkeypatch: Any) -> None:
    storage = InMemoryStorage()
    monkeypatch.setattr(files, "default_storage", storage)
    thread = conversations.create_thread(alice)
    path = files.write_file(thread, name="a.txt", content=b"whole").stored_as
    File.objects.all().delete()
    storage.delete(path)
    storage.save(path, ContentFile(b"hal"))  # a crash left it
    again = files.write_file(thread, name="a.txt", content=b"whole")
    assert files.read_file(again) == b"whole"


def test_a_crash_leaves_no_half_file_under_the_name_of_a_whole_one(
    tmp_path: Path, monkeypatch: Any
) -> None:
    storage = WholeFileStorage(location=tmp_path)

    def crash(*_: Any) -> None:
        raise OSError("power is gone")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="power"):
            storage.save("1/ab/content", ContentFile(b"whole"))
    assert not storage.exists("1/ab/content")
    assert storage.save("1/ab/content", ContentFile(b"whole")) == "1/ab/content"
    assert storage.save("1/ab/content", ContentFile(b"again")) == "1/ab/content"
    with storage.open("1/ab/content") as stored:
        assert stored.read() == b"again"
