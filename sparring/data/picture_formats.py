"""Write pictures in the formats that people share them in, and read them back."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..component import require
from ..functional.jpeg import resized_sides
from ..runtime.fractions import format_number
from .content import require_package


class Format(NamedTuple):
    """Hold a round trip: its name, and pixels uint8 `(c, h, w)` to those that come back."""

    name: str
    reread: Callable[[np.ndarray], np.ndarray]


def encoded(kind: str, **options: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Return the round trip through a file in memory, of a kind and options of Pillow's."""

    def reread(pixels: np.ndarray) -> np.ndarray:
        pillow = require_package("PIL.Image", "pillow")
        image, file = _image(pillow, pixels), io.BytesIO()
        image.save(file, kind, **options)
        with pillow.open(io.BytesIO(file.getvalue()), formats=[kind]) as opened:
            return _pixels(opened.convert(image.mode))

    return reread


def jpeg_format(quality: int) -> Format:
    """Return JPEG of a quality, with colours of half the resolution, as most programs write it.

    Raises:
        ValueError: for a quality outside 1 to 100.
    """
    require(1 <= quality <= 100, "jpeg", quality, "a JPEG quality from 1 to 100")
    return Format(f"JPEG {quality}", encoded("JPEG", quality=quality))


def resize_format(factor: float) -> Format:
    """Return the resizing by a factor and back, bicubic.

    Raises:
        ValueError: for a factor that is not above 0 and at most 8.
    """
    require(0 < factor <= 8, "resize", factor, "a scale above 0, at most 8")

    def reread(pixels: np.ndarray) -> np.ndarray:
        pillow = require_package("PIL.Image", "pillow")
        image = _image(pillow, pixels)
        height, width = resized_sides(image.height, image.width, factor)
        small = image.resize((width, height), pillow.Resampling.BICUBIC)
        return _pixels(small.resize(image.size, pillow.Resampling.BICUBIC))

    return Format(f"resize {format_number(factor)}", reread)


USUAL = (
    Format("PNG", encoded("PNG")),
    Format("WebP lossless", encoded("WEBP", lossless=True, exact=True)),
    Format("WebP 80", encoded("WEBP", quality=80)),
    jpeg_format(95),
    jpeg_format(75),
    jpeg_format(50),
    resize_format(0.5),
)


def formats(jpeg: Sequence[int] = (), resize: Sequence[float] = ()) -> list[Format]:
    """Return the usual formats, and those of more qualities and factors.

    >>> [one.name for one in formats(jpeg=[60])][-3:]
    ['JPEG 50', 'resize 0.5', 'JPEG 60']
    """
    more = [*map(jpeg_format, jpeg), *map(resize_format, resize)]
    return list({one.name: one for one in (*USUAL, *more)}.values())


def _image(pillow: Any, pixels: np.ndarray) -> Any:
    return pillow.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0).copy())


def _pixels(image: Any) -> np.ndarray:
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
