"""Pictures and PDFs as models take them.

Call what looks at a content within a budget (`teammates/timebox.py`): strangers made it. The
libraries are loaded there, when the first file needs them.
"""

import io
from typing import TYPE_CHECKING

from teammates.file_text import Unreadable, damaged, pdf_reader
from teammates.providers.base import MediaKind

if TYPE_CHECKING:
    from PIL import Image

# By what a file's name says; whether it is true is seen when the file is looked at.
_KINDS: dict[str, MediaKind] = {
    "image/png": "picture",
    "image/jpeg": "picture",
    "image/webp": "picture",
    "image/gif": "picture",
    "application/pdf": "pdf",
}
_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
# What providers make smaller themselves, or refuse.
LONGEST_SIDE = 1568  # pixels
LARGEST_PICTURE = 3_500_000  # bytes: 5 MB on the wire
LARGEST_PDF = 10 * 1024 * 1024
MOST_PAGES = 100
MOST_PIXELS = 50_000_000  # of what is made smaller
TOKENS_OF_PAGE = 2_000


def kind_of(content_type: str) -> MediaKind | None:
    """How a file of that type is shown to a model, if it can be."""
    return _KINDS.get(content_type)


def picture_for_model(content: bytes) -> tuple[bytes, str, int]:
    """A picture, smaller if it is larger than models take; its media type, and how many tokens it
    has, roughly. Raises `Unreadable`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=list(_FORMATS)) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise Unreadable(f"has too many pixels ({picture.width} by {picture.height}).")
            is_animated = getattr(picture, "is_animated", False)
            fits = max(picture.size) <= LONGEST_SIDE and len(content) <= LARGEST_PICTURE
            if fits and not is_animated:
                picture.load()  # raises where the rest is broken
                return content, _FORMATS[picture.format or ""], _tokens(picture.size)
            return _smaller(picture)
    except UnidentifiedImageError:
        raise Unreadable("is no PNG, JPEG, WebP or GIF picture.") from None
    except Exception as error:
        raise damaged("picture", error) from error


def _smaller(picture: "Image.Image") -> tuple[bytes, str, int]:
    from PIL import ImageOps

    if picture.mode.startswith("I"):  # 16 bits of grey
        picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    picture = ImageOps.exif_transpose(picture)
    size = _tokens(picture.size)
    if picture.has_transparency_data:
        png = io.BytesIO()
        picture.convert("RGBA").save(png, "PNG")
        if len(png.getvalue()) <= LARGEST_PICTURE:
            return png.getvalue(), "image/png", size
    jpeg = io.BytesIO()
    picture.convert("RGB").save(jpeg, "JPEG", quality=85)
    return jpeg.getvalue(), "image/jpeg", size


def _tokens(size: tuple[int, int]) -> int:
    return max(1, size[0] * size[1] // 750)


def tokens_of_pdf(content: bytes) -> int:
    """How many tokens a PDF has, roughly. Raises `Unreadable` for one that models refuse."""
    if len(content) > LARGEST_PDF:
        raise Unreadable(f"is larger than {LARGEST_PDF // 2**20} MiB.")
    pages = len(pdf_reader(content).pages)
    if pages > MOST_PAGES:
        raise Unreadable(f"has {pages} pages; a model is shown at most {MOST_PAGES}.")
    return pages * TOKENS_OF_PAGE
