"""Reading files of a thread, and pages and PDFs of the web."""

import asyncio
from typing import Any

import httpx2
import pytest

from teammates.tools import web
from teammates.tools.base import ToolError
from teammates.tools.files import READ_FILE
from tests.teammates.test_file_text import ARTICLE, excel, pdf


class Files:
    """The files of a run, as its tools have them."""

    def __init__(self, **files: bytes) -> None:
        self._files = files

    async def read_file(self, name: str) -> bytes | None:
        return self._files.get(name)

    async def show_file(self, name: str) -> bool:
        return name.endswith(".png")


def read(content: bytes, **arguments: Any) -> Any:
    run: Any = READ_FILE.run
    return asyncio.run(run(Files(file=content), {"name": "file", **arguments}))


def test_a_picture_is_shown() -> None:
    run: Any = READ_FILE.run
    assert asyncio.run(run(Files(**{"a.png": b"\x89PNG"}), {"name": "a.png"})) == {"file": "a.png"}


def test_office_files_and_pdfs_are_read_as_text() -> None:
    assert read(pdf("Total 40"))["content"] == "## Page 1\n\nTotal 40"
    assert "May,12.5" in read(excel())["content"]


def test_a_long_file_is_read_piece_by_piece() -> None:
    text = "".join(f"{n:06}" for n in range(10_000))
    first = read(text.encode())
    assert (len(first["content"]), first["note"]) == (40_000, "characters 0 to 40000 of 60000")
    assert read(text.encode(), start=40_000)["content"] == text[40_000:]


def test_what_cannot_be_read_is_told_with_the_files_name() -> None:
    with pytest.raises(ToolError, match=r"file has no text: its pages are pictures\."):
        read(pdf(""))


def fetched(content: bytes, kind: str, url: str = "https://example.com/x") -> Any:
    response = httpx2.Response(
        200, headers={"content-type": kind}, request=httpx2.Request("GET", url), content=content
    )
    return asyncio.run(web._result(response, content))


def test_a_page_of_the_web_is_what_one_reads_of_it() -> None:
    page = fetched(ARTICLE.encode(), "text/html; charset=utf-8")
    assert page["title"] == "How to bake"
    assert "[good flour](https://example.com/flour)" in page["text"]


def test_a_pdf_of_the_web_is_its_text_whatever_it_is_called() -> None:
    for kind in ("application/pdf", "application/octet-stream"):
        assert fetched(pdf("Total 40"), kind)["text"] == "## Page 1\n\nTotal 40"


def test_other_kinds_are_named() -> None:
    assert fetched(b'{"a": 1}', "application/json")["text"] == '{"a": 1}'
    with pytest.raises(ToolError, match="is not text but image/png"):
        fetched(b"\x89PNG", "image/png")
    with pytest.raises(ToolError, match="is a damaged PDF"):
        fetched(b"%PDF-1.4 no", "application/pdf")
