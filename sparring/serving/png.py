"""Encode pictures as PNG in memory, for the page and for the download."""

from __future__ import annotations

import base64
import io

import torch
from torch import Tensor

from ..data.content import require_package

ENLARGED = 10  # a difference is shown this many times as large, around grey


def png(x: Tensor) -> bytes:
    """Return a picture `x (c, h, w)` of multiples of 1/255 as a PNG of the same 8 bits."""
    pillow = require_package("PIL.Image", "pillow")
    pixels = (255 * x).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    image = pillow.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def address(x: Tensor) -> str:
    """Return a picture as an address that stands in a page."""
    return "data:image/png;base64," + base64.b64encode(png(x)).decode()


def difference(x_adv: Tensor, x: Tensor) -> Tensor:
    """Return x' − x, ten times as large and around grey, as a picture."""
    return (0.5 + ENLARGED * (x_adv - x)).clamp(0, 1)
