"""What is read of files of each kind, and what is said of those that cannot be read."""

import io
import zipfile
from collections.abc import Callable

import docx
import openpyxl
import pptx
import pypdf
import pytest

from teammates import file_text, timebox
from teammates.file_text import Unreadable, page_of, text_of


def pdf(*pages: str) -> bytes:
    """A PDF with a line of text on each page."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    kids = []
    for line in pages:
        drawn = f"BT /F1 12 Tf 72 700 Td ({line}) Tj ET" if line else ""
        kids.append(f"{len(objects) + 1} 0 R")
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 << "
            "/Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> "
            f"/Contents {len(objects) + 2} 0 R >>"
        )
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    content, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(content))
        content += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    end += f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(content)}\n%%EOF"
    return content + end.encode()


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def word() -> bytes:
    document = docx.Document()
    document.add_heading("Offer", 1)
    document.add_paragraph("For the spring.")
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(
        [cell for row in table.rows for cell in row.cells],
        ["Part", "Price", "Frame", "40"],
        strict=True,
    ):
        cell.text = text
    return saved(document.save)


def excel() -> bytes:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = "Sales"
    for row in (["Month", "Sum"], ["May", 12.5], [None, None], ["June, 2nd", 3]):
        book.active.append(row)  # type: ignore[attr-defined]
    return saved(book.save)


def powerpoint() -> bytes:
    show = pptx.Presentation()
    slide = show.slides.add_slide(show.slide_layouts[1])
    assert slide.shapes.title is not None
    slide.shapes.title.text = "Plan"
    assert slide.notes_slide.notes_text_frame is not None
    slide.notes_slide.notes_text_frame.text = "Be brief"
    return saved(show.save)


def test_a_pdf_is_read_page_by_page() -> None:
    text = text_of("a.pdf", pdf("Invoice 7", "Total 40"))
    assert text == "## Page 1\n\nInvoice 7\n\n## Page 2\n\nTotal 40"


def test_a_document_has_its_headings_and_tables() -> None:
    text = text_of("a.docx", word())
    assert text.startswith("# Offer\n\nFor the spring.\n\n| Part | Price |\n| --- | --- |\n")
    assert text.endswith("| Frame | 40 |")


def test_a_workbook_is_its_rows() -> None:
    assert text_of("a.xlsx", excel()) == '## Sales\n\nMonth,Sum\nMay,12.5\n"June, 2nd",3'


def test_slides_have_their_notes() -> None:
    assert text_of("a.pptx", powerpoint()) == "## Slide 1\n\nPlan\n\nNotes: Be brief"


def test_plain_text_is_itself_and_a_page_is_what_one_reads() -> None:
    assert text_of("a.csv", "a,b\né".encode()) == "a,b\né"
    html = "<html><body><nav>Menu</nav><p>Hello <b>you</b></p><script>x()</script></body></html>"
    assert "Hello" in text_of("a.HTML", html.encode())
    assert "x()" not in text_of("a.html", html.encode())


ARTICLE = """<html><head><title>How to bake</title></head><body>
<nav><a href="/">Home</a> <a href="/more">More recipes</a></nav>
<article><h1>How to bake bread</h1><p>Take <a href="/flour">good flour</a> and knead it for ten
minutes, until it is smooth and lets go of the bowl by itself.</p>
<ul><li>Salt</li><li>Water</li></ul>
<table><tr><th>Step</th><th>Minutes</th></tr><tr><td>Rest</td><td>90</td></tr></table>
<p>Then it goes into the oven, which was hot for half an hour before the bread goes in.</p>
</article>
<footer>Imprint</footer></body></html>"""


def test_a_web_page_is_its_article_with_links_lists_and_tables() -> None:
    title, text = page_of(ARTICLE, "https://example.com/bread")
    assert title == "How to bake"
    assert "# How to bake bread" in text
    assert "[good flour](https://example.com/flour)" in text
    assert "- Salt" in text
    assert "| Rest | 90 |" in text
    assert "Imprint" not in text


def encrypted() -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf("Secret")))
    writer.encrypt("password", algorithm="RC4-128")
    return saved(writer.write)


def archive(*parts: str) -> bytes:
    def write(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
            for part in parts:
                zipped.writestr(part, "x")

    return saved(write)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (pdf("", ""), "has no text: its pages are pictures."),
        (encrypted(), "is protected by a password."),
        (b"%PDF-1.4\nnothing", "is a damaged PDF"),
        (b"\x89PNG\r\n\x1a\n\x00", "is not a text file, a PDF or an office file."),
        (b"PK\x03\x04nothing", "is a damaged office file."),
        (archive("a.txt"), "is an archive; unpack it first."),
        (archive("word/document.xml"), "is a damaged office file"),
        (archive("xl/workbook.xml"), "is a damaged office file"),
        (archive("ppt/presentation.xml"), "is a damaged office file"),
    ],
)
def test_what_cannot_be_read_says_why(content: bytes, says: str) -> None:
    with pytest.raises(Unreadable) as caught:
        text_of("a", content)
    assert str(caught.value).startswith(says)


def test_what_would_unpack_to_too_much_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_text, "LARGEST_UNPACKED", 1000)
    with pytest.raises(Unreadable, match="too large when it is unpacked"):
        text_of("a.docx", word())


def test_a_long_text_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_text, "LONGEST", 10)
    assert text_of("a.pdf", pdf("Invoice 7", "Total 40")).endswith("[The rest is left out.]")


def test_they_are_read_within_a_budget_in_a_process_of_its_own() -> None:
    assert timebox.within(10, text_of, "a.docx", word()).startswith("# Offer")
    assert timebox.within(10, page_of, ARTICLE)[0] == "How to bake"
    with pytest.raises(Unreadable, match="damaged PDF"):
        timebox.within(10, text_of, "a", b"%PDF-1.4\nnothing")
