"""Encode pictures as PNG in memory, for the page and for the download."""

from __future__ import annotations

import base64

from torch import Tensor

from ..evaluation.picture_attack import as_bytes
from ..results.pictures import png_bytes

ENLARGED = 10  # a difference is shown this many times as large, around grey


def png(x: Tensor) -> bytes:
    """Return a picture `x (c, h, w)` of multiples of 1/255 as a PNG of the same 8 bits."""
    return png_bytes(as_bytes(x))


def address(x: Tensor) -> str:
    """Return a picture as an address that stands in a page."""
    return "data:image/png;base64," + base64.b64encode(png(x)).decode()


def difference(x_adv: Tensor, x: Tensor) -> Tensor:
    """Return x' − x, ten times as large and around grey, as a picture."""
    return (0.5 + ENLARGED * (x_adv - x)).clamp(0, 1)
