"""Fit pictures of any size to one: by a middle crop, stretched, or padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..component import require, require_at_least
from . import limits
from .content import require_package

FITS = ("crop", "stretch", "pad")
Box = tuple[float, float, float, float]


class Fitting(NamedTuple):
    """Hold how pictures are fitted: (height, width), one of `FITS`, and the decoding processes."""

    size: tuple[int, int]
    fit: str = "crop"
    workers: int = 0

    def __str__(self) -> str:
        return "{} × {} ({})".format(*self.size, self.fit)


def make_fitting(
    size: int | Sequence[int] | None, fit: str | None, stream: bool | None, workers: int | None
) -> Fitting | None:
    """Check the options of a folder of pictures; without a size there are none.

    Raises:
        ValueError: for a size that no picture has, or an option that needs a size.
    """
    for key, value in {"fit": fit, "stream": stream or None, "workers": workers}.items():
        if size is None and value is not None:
            raise ValueError(f"{key} needs size, as size = 64: it is for folders of pictures")
    if size is None:
        return None
    sides = [size, size] if isinstance(size, int) else list(size)
    ok = len(sides) == 2 and all(type(side) is int and side >= 1 for side in sides)
    require(ok, "size", size, "a side, or [height, width], in whole pixels ≥ 1")
    limits.check_pixels(f"size = {size}", sides[1], sides[0])
    fit, workers = FITS[0] if fit is None else fit, 0 if workers is None else workers
    require(fit in FITS, "fit", fit, "one of " + ", ".join(FITS))
    require_at_least(0, workers=workers)
    return Fitting((sides[0], sides[1]), fit, workers)


def middle(rows: int, columns: int, height: int, width: int) -> tuple[Box, tuple[int, int]]:
    """Return the box of a picture's middle that has the sides' ratio, and the size (high, wide) to
    which the whole picture would be resized.

    >>> middle(40, 60, 20, 20)
    ((10.0, 0.0, 50.0, 40.0), (20, 30))
    """
    scale = max(height / rows, width / columns)
    wide, high = max(round(columns * scale), width), max(round(rows * scale), height)
    # In the picture's own pixels: a thin strip is never resized as a whole.
    across, down = width / wide * columns, height / high * rows
    left, top = (columns - across) / 2, (rows - down) / 2
    return (left, top, left + across, top + down), (high, wide)


def fitted(pixels: np.ndarray, how: Fitting) -> np.ndarray:
    """Return uint8 `(c, height, width)` of a picture uint8 `(c, rows, columns)`, bicubic.

    `crop` keeps the middle, `stretch` changes the ratio of the sides, `pad` adds black borders.

    >>> fitted(np.zeros((1, 4, 8), np.uint8), Fitting((2, 3))).shape
    (1, 2, 3)
    """
    (height, width), (_, rows, columns) = how.size, pixels.shape
    if (rows, columns) == how.size:
        return pixels
    pillow = require_package("PIL.Image", "pillow")
    image: Any = pillow.fromarray(
        pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    )
    bicubic = pillow.Resampling.BICUBIC
    if how.fit == "pad":
        image = require_package("PIL.ImageOps", "pillow").pad(image, (width, height), bicubic)
    elif how.fit == "stretch":
        image = image.resize((width, height), bicubic)
    else:
        box, _ = middle(rows, columns, height, width)
        image = image.resize((width, height), bicubic, box=box)
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
