"""Pictures and PDFs as models take them."""

import contextlib
import io
import random
from collections.abc import Callable
from functools import partial

import pytest
from PIL import Image

from teammates import media
from teammates.file_text import Unreadable, text_of
from tests.pictures import animation, noise, picture, saved, size_of
from tests.teammates.test_file_text import pdf


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_picture_that_fits_stays_as_it_is(kind: str) -> None:
    content = picture(1000, 750, kind=kind)
    fitted, media_type, tokens = media.picture_for_model(content)
    assert (fitted, media_type, tokens) == (content, f"image/{kind.lower()}", 1000)


def test_a_large_picture_is_made_smaller() -> None:
    fitted, media_type, _ = media.picture_for_model(picture(6000, 3000))
    assert (size_of(fitted), media_type) == ((1568, 784), "image/jpeg")
    heavy = noise(1500, 1200)
    assert len(heavy) > media.LARGEST_PICTURE
    fitted, media_type, _ = media.picture_for_model(heavy)
    assert len(fitted) <= media.LARGEST_PICTURE
    assert (size_of(fitted), media_type) == ((1500, 1200), "image/jpeg")


def test_what_can_be_seen_through_stays_so() -> None:
    fitted, media_type, _ = media.picture_for_model(picture(2000, 100, mode="RGBA"))
    assert media_type == "image/png"
    assert size_of(fitted) == (1568, 78)


def test_of_an_animation_the_first_frame_is_shown() -> None:
    fitted, media_type, _ = media.picture_for_model(animation())
    assert (media_type, size_of(fitted)) == ("image/jpeg", (20, 20))


def test_a_photograph_that_lies_on_its_side_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by a quarter
    content = saved(Image.new("RGB", (4000, 1000)), "JPEG", exif=exif)
    assert size_of(media.picture_for_model(content)[0]) == (392, 1568)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"no picture", "is no PNG, JPEG, WebP or GIF picture."),
        (picture(kind="BMP"), "is no PNG, JPEG, WebP or GIF picture."),
        (noise(200, 200)[:5000], "is a damaged picture"),
        (picture(10_000, 5_100, mode="L"), "has too many pixels"),
    ],
    ids=["text", "bmp", "cut", "pixels"],
)
def test_what_cannot_be_shown_says_why(content: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        media.picture_for_model(content)


def test_sixteen_bits_of_grey_stay_grey() -> None:
    grey = Image.new("I;16", (2000, 10), 9_600)
    fitted, _, _ = media.picture_for_model(saved(grey, "PNG"))
    with Image.open(io.BytesIO(fitted)) as shown:
        assert shown.convert("L").getpixel((5, 5)) == pytest.approx(9_600 / 256, abs=3)


@pytest.mark.parametrize(
    ("content", "look"),
    [
        (animation(), media.picture_for_model),
        (picture(60, 40, kind="GIF"), media.picture_for_model),
        (picture(60, 40, kind="JPEG"), media.picture_for_model),
        (pdf("one", "two"), media.tokens_of_pdf),
        (pdf("one", "two"), partial(text_of, "a.pdf")),
    ],
    ids=["animation", "gif", "jpeg", "pages", "text"],
)
def test_whatever_is_broken_is_said_to_be(content: bytes, look: Callable[[bytes], object]) -> None:
    chance = random.Random(1)
    for _ in range(300):
        broken = bytearray(content)
        for _ in range(chance.randint(1, 8)):
            broken[chance.randrange(5, len(broken))] = chance.randrange(256)
        with contextlib.suppress(Unreadable):
            look(bytes(broken))


def test_pdfs_that_models_refuse_are_not_shown() -> None:
    assert media.tokens_of_pdf(pdf("one", "two")) == 2 * media.TOKENS_OF_PAGE
    with pytest.raises(Unreadable, match="has 101 pages"):
        media.tokens_of_pdf(pdf(*["word"] * 101))
    with pytest.raises(Unreadable, match="larger than 10 MiB"):
        media.tokens_of_pdf(pdf("one") + b" " * media.LARGEST_PDF)
    with pytest.raises(Unreadable, match="damaged PDF"):
        media.tokens_of_pdf(b"%PDF-1.4 and nothing else")
