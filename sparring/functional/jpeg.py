"""Write pictures as JPEG and read them again, with a gradient.

The steps are those of the standard, in the arithmetic of libjpeg: colours to YCbCr, 4:2:0
subsampling, cosine transform of 8 × 8 blocks, quantization, and back. Each rounding has its
gradient straight through.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..component import require
from .rounding import straight_through

BLOCK = 8
# ITU-T T.81, annex K.1: luminance and chrominance, row by row.
LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)
# JFIF 1.02: red, green and blue to Y, Cb and Cr, and back.
TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))


def jpeg_round_trip(x: Tensor, quality: int) -> Tensor:
    """Return pictures as they come back from a JPEG file of this quality, with a gradient.

    Arguments:
        x: `(b, c, h, w)` in [0, 1], c = 1 for grey or 3 for RGB; it is rounded to 8 bits first.
        quality: 1 to 100, as encoders count it; colours have half the resolution.

    Raises:
        ValueError: for another quality, or inputs that are no pictures.

    Source: ITU-T T.81; JFIF 1.02; the scale of tables by quality and the arithmetic of sampling are
    libjpeg's. Differs: the cosine transform is in floats, so that a few values differ by 1/255.

    >>> jpeg_round_trip(torch.full((1, 1, 8, 8), 0.5), 75).unique()
    tensor([0.5020])
    """
    require(1 <= quality <= 100, "quality", quality, "a JPEG quality from 1 to 100")
    require(x.ndim == 4 and x.shape[1] in (1, 3), "x", tuple(x.shape), "pictures (b, 1 or 3, h, w)")
    height, width = x.shape[2:]
    planes = _round(255 * x).clamp(0, 255)
    if x.shape[1] == 1:
        return _coded(planes, _table(LUMINANCE, quality, x)) / 255
    offset = x.new_tensor((0.0, 128.0, 128.0)).view(3, 1, 1)
    ycc = _round(_mixed(planes, TO_YCC) + offset).clamp(0, 255)
    luma = _coded(ycc[:, :1], _table(LUMINANCE, quality, x))
    chroma = _coded(_halved(ycc[:, 1:]), _table(CHROMINANCE, quality, x))
    both = _round(_doubled(chroma))[:, :, :height, :width]
    rgb = _mixed(torch.cat([luma, both], 1) - offset, TO_RGB)
    return _round(rgb).clamp(0, 255) / 255


def _round(z: Tensor) -> Tensor:
    """Round halves away from 0, as encoders do: means of blocks are halves often."""
    values = z.detach()
    return straight_through(z, (values.abs() + 0.5).floor() * values.sign())


def _mixed(x: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", x.new_tensor(matrix), x)


def _table(base: tuple[int, ...], quality: int, like: Tensor) -> Tensor:
    """Return the quantization steps `(8, 8)` of a quality, as libjpeg scales them."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = [min(max((value * scale + 50) // 100, 1), 255) for value in base]
    return like.new_tensor(steps).view(BLOCK, BLOCK)


@functools.cache
def _cosines() -> list[list[float]]:
    """Return the orthonormal cosine transform `(8, 8)`: frequencies by positions."""
    return [
        [
            math.sqrt((1 if k == 0 else 2) / BLOCK)
            * math.cos((2 * i + 1) * k * math.pi / (2 * BLOCK))
            for i in range(BLOCK)
        ]
        for k in range(BLOCK)
    ]


def _coded(planes: Tensor, table: Tensor) -> Tensor:
    """Quantize planes `(b, c, h, w)` of 0 … 255 in blocks, and return what is decoded."""
    b, c, height, width = planes.shape
    padded = _padded(planes, -height % BLOCK, -width % BLOCK) - 128
    down, across = padded.shape[2] // BLOCK, padded.shape[3] // BLOCK
    blocks = padded.view(b, c, down, BLOCK, across, BLOCK).transpose(3, 4)
    dct = planes.new_tensor(_cosines())
    coefficients = dct @ blocks @ dct.T
    kept = _round(coefficients / table) * table
    decoded = (dct.T @ kept @ dct).transpose(3, 4).reshape(padded.shape)
    return (_round(decoded) + 128).clamp(0, 255)[:, :, :height, :width]


def _padded(planes: Tensor, below: int, right: int) -> Tensor:
    return F.pad(planes, (0, right, 0, below), mode="replicate") if below or right else planes


def _halved(planes: Tensor) -> Tensor:
    """Return means of 2 × 2 pixels; libjpeg rounds up where it may in every second column."""
    planes = _padded(planes, planes.shape[2] % 2, planes.shape[3] % 2)
    mean = F.avg_pool2d(planes, 2)
    bias = torch.arange(mean.shape[3], device=planes.device) % 2
    return straight_through(mean, (mean.detach() + (1 + bias) / 4).floor())


def _doubled(planes: Tensor) -> Tensor:
    """Return planes of twice the size, by weights ¾ and ¼ of the nearest two in each direction."""
    size = (2 * planes.shape[2], 2 * planes.shape[3])
    return F.interpolate(planes, size, mode="bilinear", align_corners=False)


def resize_round_trip(x: Tensor, factor: float) -> Tensor:
    """Return pictures `(b, c, h, w)` in [0, 1] resized by a factor and back, bicubic, of 8 bits.

    The gradient passes both roundings.

    Raises:
        ValueError: for a factor that is not above 0 and at most 8.

    >>> resize_round_trip(torch.full((1, 1, 8, 8), 0.2), 0.5).unique()
    tensor([0.2000])
    """
    require(0 < factor <= 8, "factor", factor, "a scale above 0, at most 8")
    sides = resized_sides(x.shape[2], x.shape[3], factor)
    height, width = x.shape[2:]
    # along rows first, and 8 bits between, as Pillow resizes
    for size in ((height, sides[1]), sides, (sides[0], width), (height, width)):
        if size != tuple(x.shape[2:]):
            z = F.interpolate(x, size, mode="bicubic", align_corners=False, antialias=True)
            x = _round(255 * z).clamp(0, 255) / 255
    return x


def resized_sides(height: int, width: int, factor: float) -> tuple[int, int]:
    """Return both sides times a factor, at least 1.

    >>> resized_sides(32, 1, 0.5)
    (16, 1)
    """
    return max(round(height * factor), 1), max(round(width * factor), 1)
