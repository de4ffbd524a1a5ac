"""Read a person's own picture, whatever it is made of, and fit it to a model's inputs.

A folder of training pictures refuses what would lose something; here each conversion is made, and
said in the picture's notes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..runtime.text import printable
from . import limits
from .content import reason, require_package
from .picture_sizes import middle
from .pictures import FORMATS, deep, orientation, turned_upright, without_pillow_limits

BACKGROUND = 255  # white: what a page or a viewer shows behind transparent pixels
FORMAT_NAMES = ("PNG", "JPEG", "WebP", "BMP", "TIFF", "PPM", "a GIF of one frame")


class Picture(NamedTuple):
    """Hold a decoded picture: uint8 `pixels (c, h, w)` with c = 1 or 3, and what was converted."""

    name: str
    pixels: Tensor
    notes: list[str]


def read_picture(path: str | Path) -> Picture:
    """Read a picture's file, as `decode_picture`.

    Raises:
        ValueError: for a file that is no picture, damaged, animated, or larger than the limits.
        OSError: if it cannot be opened.
    """
    return decode_picture(limits.read(path), str(path))


def decode_picture(content: bytes, name: str) -> Picture:
    """Decode the bytes of a picture of any colours and depth into 8 bits, upright and opaque.

    Arguments:
        name: of the picture, for messages.

    Raises:
        ValueError: for bytes that are no picture, damaged, animated, of floats, or more than
            `limits` allows.

    >>> decode_picture(b"", "cat.png")
    Traceback (most recent call last):
    ValueError: cat.png is empty
    """
    name = printable(name)
    if not content:
        raise ValueError(f"{name} is empty")
    limits.check_bytes(name, len(content))
    pillow = require_package("PIL.Image", "pillow")
    with without_pillow_limits(pillow):
        try:
            opened = pillow.open(io.BytesIO(content), formats=FORMATS)
        except MemoryError:
            raise
        except Exception as error:  # a damaged picture may raise anything
            known = f"{', '.join(FORMAT_NAMES[:-1])} or {FORMAT_NAMES[-1]}"
            unknown = isinstance(error, pillow.UnidentifiedImageError)
            why = f"not {known}" if unknown else reason(error)
            raise ValueError(f"{name} is no picture that can be read: {why}") from None
        limits.check_pixels(name, *opened.size)
        with opened:
            try:
                frames = opened.format != "MPO" and getattr(opened, "is_animated", False)
                notes: list[str] = []
                image = None if frames else _eight_bits(pillow, opened, notes)
            except MemoryError:
                raise
            except Exception as error:
                raise ValueError(f"{name} is truncated or damaged: {reason(error)}") from None
    if image is None:
        raise ValueError(f"{name} has several frames or pages: save the one that counts")
    if image.mode not in ("L", "RGB"):
        raise ValueError(f"{name} has pixels of mode {image.mode}: save it as a PNG of 8 bits")
    array = np.asarray(image)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return Picture(name, torch.from_numpy(array.copy()), notes)


def _eight_bits(pillow: Any, opened: Any, notes: list[str]) -> Any:
    """Return an open picture in mode L or RGB, upright; write what that took into `notes`.

    A mode that has no such form stays as it is.
    """
    is_deep = deep(opened)  # before loading, which forgets how the file is laid out
    opened.load()
    image, mode = opened, opened.mode
    if mode.startswith("I"):  # grey of 16 bits, which Pillow keeps in 32
        values = np.asarray(opened)
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            return image
        # Programs that count in 32 bits save grey from 0 to 255 so; other formats have no 32 bits,
        # and there such small values are a dark picture of 16.
        if mode == "I" and opened.format == "TIFF" and values.max(initial=0) <= 255:
            notes.append("32 bits held 8")
        else:
            notes.append("16 bits rounded to 8")
            values = (values.astype(np.int64) + 128) // 257
        image = pillow.fromarray(values.astype(np.uint8))
    elif mode == "F" or mode == "LAB":
        return image
    elif is_deep:
        notes.append("16 bits per colour cut to 8")
    if mode == "1":
        notes.append("1 bit per pixel became grey")
        image = image.convert("L")
    if opened.has_transparency_data or mode in ("La", "RGBa", "PA"):
        image = _painted(pillow, image, notes)
    elif mode in ("P", "CMYK", "YCbCr", "HSV"):
        notes.append("palette expanded to RGB" if mode == "P" else f"{mode} converted to RGB")
    profile = opened.info.get("icc_profile") or b""
    if profile and b"sRGB" not in profile:
        notes.append("its colour profile was ignored")
    image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    if (value := orientation(opened)) > 1:
        image = turned_upright(pillow, image, value)
        notes.append("turned upright, as its EXIF data say")
    return image


def _painted(pillow: Any, image: Any, notes: list[str]) -> Any:
    """Return a picture with transparency on a white background."""
    grey = image.mode in ("L", "LA", "La")
    layer = image.convert("LA" if image.mode == "La" else image.mode).convert("RGBA")
    if layer.getchannel("A").getextrema()[0] < 255:
        notes.append("transparent pixels painted on white")
        layer = pillow.alpha_composite(pillow.new("RGBA", layer.size, (BACKGROUND,) * 4), layer)
    else:
        notes.append("transparency dropped: every pixel is opaque")
    return layer.convert("L" if grey else "RGB")


def fit_picture(picture: Picture, shape: Sequence[int]) -> tuple[Tensor, list[str]]:
    """Fit a picture to a model's input `(c, h, w)`; return it and the notes on what was done.

    The short side is resized to fit, then the middle is cut out. Values are multiples of 1/255, in
    float32.

    Raises:
        ValueError: for a shape that is no picture's of 1 or 3 channels.

    >>> picture = Picture("cat.png", torch.zeros(3, 60, 40, dtype=torch.uint8), [])
    >>> fit_picture(picture, (1, 20, 20))[1]
    ['resized from 40 × 60 to 20 × 30', 'middle 20 × 20 cut out', 'colours became grey']
    """
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1:
        raise ValueError(
            f"the model takes inputs of shape {tuple(shape)}: pictures fit a model of grey or RGB "
            "pictures, with inputs (1, h, w) or (3, h, w)"
        )
    pillow = require_package("PIL.Image", "pillow")
    channels, height, width = shape
    _, rows, columns = picture.pixels.shape
    array = picture.pixels.permute(1, 2, 0).numpy()
    image = pillow.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    notes = []
    if (rows, columns) != (height, width):
        box, (high, wide) = middle(rows, columns, height, width)
        if (high, wide) != (rows, columns):
            notes.append(f"resized from {columns} × {rows} to {wide} × {high}")
        if (high, wide) != (height, width):
            notes.append(f"middle {width} × {height} cut out")
        image = image.resize((width, height), pillow.Resampling.BICUBIC, box=box)
    if (image.mode == "L") != (channels == 1):
        notes.append("colours became grey" if channels == 1 else "grey copied to three colours")
        image = image.convert("L" if channels == 1 else "RGB")
    array = np.asarray(image)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return torch.from_numpy(array.copy()).to(torch.float32) / 255, notes
