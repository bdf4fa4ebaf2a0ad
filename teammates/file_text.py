"""The text of files that others wrote, as Markdown: PDFs, office files, web pages. Call it within a
budget (`teammates/timebox.py`); the libraries are loaded there, when the first file needs them."""

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from teammates.html import read_html

if TYPE_CHECKING:
    from pypdf import PdfReader

LARGEST_UNPACKED = 200 * 1024 * 1024  # bytes of all parts of an office file
LONGEST = 2_000_000  # characters; the rest is left out
NO_TEXT = "has no text: its pages are pictures."
PDF = b"%PDF-"
ZIP = b"PK\x03\x04"
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8")


class Unreadable(Exception):
    """The file has no text that can be read; the message says why, behind the file's name."""


def is_picture(content: bytes) -> bool:
    """Whether it begins like a PNG, a JPEG, a GIF or a WebP."""
    return content.startswith(_PICTURES) or content[8:12] == b"WEBP"


def damaged(kind: str, error: Exception) -> Exception:
    """Libraries raise anything of a file that is broken; want of memory is no news of the file."""
    if isinstance(error, Unreadable | MemoryError | RecursionError):
        return error
    return Unreadable(f"is a damaged {kind} ({type(error).__name__}).")


def text_of(name: str, content: bytes) -> str:
    """The text of a file of any known kind, whatever its name says. Raises `Unreadable`."""
    if content.startswith(PDF):
        return _joined(_pages(content))
    if content.startswith(ZIP):
        return _joined(_office(content))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("is not a text file, a PDF or an office file.") from None
    if name.lower().endswith((".html", ".htm", ".xhtml")):
        return page_of(text)[1]
    return text


def page_of(html: str, url: str = "") -> tuple[str, str]:
    """The title of a web page, and what of it one reads, with its links and tables."""
    import trafilatura

    title, plain = read_html(html)
    markdown = trafilatura.extract(
        html, url=url or None, output_format="markdown", include_links=True, favor_recall=True
    )
    return title, markdown or plain


def _joined(pieces: Iterable[str]) -> str:
    found, size = [], 0
    for piece in pieces:
        found.append(piece)
        size += len(piece)
        if size > LONGEST:
            found.append("[The rest is left out.]")
            break
    return "\n\n".join(found)


def pdf_reader(content: bytes) -> "PdfReader":
    """Raises `Unreadable`: damaged, or protected by a password."""
    from pypdf import PdfReader

    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("is protected by a password.")
        len(reader.pages)  # reads the tree of pages
    except Exception as error:
        raise damaged("PDF", error) from error
    return reader


def _pages(content: bytes) -> Iterator[str]:
    has_text = False
    try:
        for number, page in enumerate(pdf_reader(content).pages, 1):
            text = page.extract_text().strip()
            has_text = has_text or bool(text)
            yield f"## Page {number}\n\n{text}"
    except Exception as error:
        raise damaged("PDF", error) from error
    if not has_text:
        raise Unreadable(NO_TEXT)


def _office(content: bytes) -> Iterator[str]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            names = {info.filename for info in parts.infolist()}
            size = sum(info.file_size for info in parts.infolist())
    except zipfile.BadZipFile:
        raise Unreadable("is a damaged office file.") from None
    read = next((read for part, read in _READERS.items() if part in names), None)
    if read is None:
        raise Unreadable("is an archive; unpack it first.")
    if size > LARGEST_UNPACKED:
        raise Unreadable("is too large when it is unpacked.")
    try:
        yield from read(io.BytesIO(content))
    except Exception as error:
        raise damaged("office file", error) from error


def _document(content: io.BytesIO) -> Iterator[str]:
    import docx
    from docx.table import Table

    for block in docx.Document(content).iter_inner_content():
        if isinstance(block, Table):
            yield _table([[cell.text for cell in row.cells] for row in block.rows])
            continue
        style = block.style.name if block.style is not None else None
        level = (style or "").removeprefix("Heading ")
        if text := block.text.strip():
            yield f"{'#' * int(level)} {text}" if level.isdecimal() else text


def _workbook(content: io.BytesIO) -> Iterator[str]:
    import openpyxl

    book = openpyxl.load_workbook(content, read_only=True, data_only=True)
    for sheet in book.worksheets:
        rows = (["" if cell is None else str(cell) for cell in row] for row in sheet.values)
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows(row for row in rows if any(row))
        yield f"## {sheet.title}\n\n{lines.getvalue().strip()}"


def _slides(content: io.BytesIO) -> Iterator[str]:
    import pptx

    for number, slide in enumerate(pptx.Presentation(content).slides, 1):
        pieces = [f"## Slide {number}"]
        for shape in slide.shapes:
            pieces += _shape(shape)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            notes = slide.notes_slide.notes_text_frame.text.strip()
            pieces += [f"Notes: {notes}"] if notes else []
        yield "\n\n".join(pieces)


def _shape(shape: Any) -> list[str]:
    if shape.has_text_frame and (text := shape.text_frame.text.strip()):
        return [text]
    if getattr(shape, "has_table", False):
        return [_table([[cell.text for cell in row.cells] for row in shape.table.rows])]
    return []


def _table(rows: list[list[str]]) -> str:
    if not rows:
        return ""
    lines = [f"| {' | '.join(' '.join(cell.split()) for cell in row)} |" for row in rows]
    return "\n".join([lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]])


# By a part that every file of the kind has.
_READERS: dict[str, Callable[[io.BytesIO], Iterator[str]]] = {
    "word/document.xml": _document,
    "xl/workbook.xml": _workbook,
    "ppt/presentation.xml": _slides,
}
