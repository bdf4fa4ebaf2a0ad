"""Pictures and PDFs as models take them.

Call what looks at a content within a budget (`teammates/timebox.py`): strangers made it. The
libraries are loaded there, when the first file needs them.
"""

import io

from teammates.file_text import Unreadable, pdf_reader
from teammates.providers.base import MediaKind

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
MOST_PIXELS = 80_000_000  # of what is made smaller
TOKENS_OF_PAGE = 2_000


def kind_of(content_type: str) -> MediaKind | None:
    """How a file of that type is shown to a model, if it can be."""
    return _KINDS.get(content_type)


def picture_for_model(content: bytes) -> tuple[bytes, str, int]:
    """A picture, smaller if it is larger than models take; its media type, and how many tokens it
    has, roughly. Raises `Unreadable`."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=list(_FORMATS)) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise Unreadable(f"has too many pixels ({picture.width} by {picture.height}).")
            is_animated = getattr(picture, "is_animated", False)
            fits = max(picture.size) <= LONGEST_SIDE and len(content) <= LARGEST_PICTURE
            if fits and not is_animated:
                picture.load()  # raises where the rest is broken
                return content, _FORMATS[picture.format or ""], _tokens(picture.size)
            upright = ImageOps.exif_transpose(picture)
            upright.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            small = io.BytesIO()
            if upright.has_transparency_data:
                upright.convert("RGBA").save(small, "WEBP", quality=85)
                return small.getvalue(), "image/webp", _tokens(upright.size)
            upright.convert("RGB").save(small, "JPEG", quality=85)
            return small.getvalue(), "image/jpeg", _tokens(upright.size)
    except UnidentifiedImageError:
        raise Unreadable("is no PNG, JPEG, WebP or GIF picture.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unreadable(f"is a damaged picture ({type(error).__name__}).") from error


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
