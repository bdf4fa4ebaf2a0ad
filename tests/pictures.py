"""Pictures that tests make."""

import io
from typing import Any

from PIL import Image


def picture(width: int = 40, height: int = 30, *, kind: str = "PNG", mode: str = "RGB") -> bytes:
    color: Any = (200, 80, 20, 90)[: len(mode)]
    return saved(Image.new(mode, (width, height), color if len(mode) > 1 else 0), kind)


def noise(width: int, height: int) -> bytes:
    """A PNG that hardly gets smaller."""
    return saved(Image.effect_noise((width, height), 100).convert("RGB"), "PNG")


def animation() -> bytes:
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "green")]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def size_of(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        return image.size
