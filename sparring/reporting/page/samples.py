"""Show samples clean and attacked, broken ones first, as pictures of the page."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np

from ...results.result import Result
from .. import charts

MOST, LEAST = 8, 3
SMALL = 64  # pixels: smaller pictures are enlarged pixel by pixel
NEEDED = ("show_x", "show_x_adv", "show_y", "show_clean", "show_adv")
LOW, MIDDLE, HIGH = (np.array(tone) for tone in ((15, 122, 192), (245, 245, 245), (213, 94, 0)))


class Sample(NamedTuple):
    """Hold three pictures of a sample as addresses, and its predictions; `broken` is by attack."""

    clean: str
    attacked: str
    difference: str
    label: str
    clean_pred: str
    adv_pred: str
    clean_right: bool
    broken: bool


class ShownSamples(NamedTuple):
    """Hold the samples of a result with the scale of their differences.

    Arguments:
        broken, kept: samples that attacks broke, of all that the result has pictures of.
        layout: class of the page's style: `"pixel"`, `"fine"` or `"strip"`.
        scale: a colour bar of the differences.
    """

    rows: list[Sample]
    broken: int
    kept: int
    layout: str
    scale: str


def samples(r: Result) -> ShownSamples | None:
    """Return samples that attacks broke, others if these are few; None without pictures."""
    if not set(NEEDED) <= set(r.arrays) or not len(r.arrays["show_x"]):
        return None
    x, z, y, clean, adv = (r.arrays[key] for key in NEEDED)
    broken = adv != y
    order = np.argsort(~broken, kind="stable")[: min(max(int(broken.sum()), LEAST), MOST)]
    most = max(float(np.abs(z[order] - x[order]).max()), 1e-6)
    names = dict(enumerate(r.class_names))

    def name(k: Any) -> str:
        return names.get(int(k), "no class")

    rows = [
        Sample(
            _address(_grey(x[i])),
            _address(_grey(z[i])),
            _address(_diverging(z[i] - x[i], most)),
            name(y[i]),
            name(clean[i]),
            name(adv[i]),
            bool(clean[i] == y[i]),
            bool(broken[i]),
        )
        for i in order
    ]
    scale = charts.colour_bar(-most, most, [_hex(t) for t in np.linspace(-1, 1, 21)])
    return ShownSamples(rows, int(broken.sum()), len(y), _layout(x[0]), scale)


def _layout(x: np.ndarray) -> str:
    if not _is_picture(x):
        return "strip"
    return "pixel" if max(x.shape[1:]) <= SMALL else "fine"


def _is_picture(x: np.ndarray) -> bool:
    return x.ndim == 3 and x.shape[0] in (1, 3)


def _planes(x: np.ndarray) -> np.ndarray:
    """Return `(h, w, 1 or 3)`; what is no picture becomes a row of pixels."""
    return x.transpose(1, 2, 0) if _is_picture(x) else x.reshape(1, -1, 1)


def _grey(x: np.ndarray) -> np.ndarray:
    return (255 * np.clip(_planes(x), 0, 1)).round()


def _diverging(difference: np.ndarray, most: float) -> np.ndarray:
    """Return colours of a difference, mean over channels: blue below 0, orange above."""
    return _tones(_planes(difference).mean(2) / most)


def _tones(t: np.ndarray) -> np.ndarray:
    weight = np.abs(t)[..., None]
    return ((1 - weight) * MIDDLE + weight * np.where(t[..., None] < 0, LOW, HIGH)).round()


def _hex(t: float) -> str:
    red, green, blue = _tones(np.array(t)).astype(int).tolist()
    return f"#{red:02x}{green:02x}{blue:02x}"


def _address(pixels: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(png(pixels.astype(np.uint8))).decode()


def png(pixels: np.ndarray) -> bytes:
    """Return `(h, w, 1 or 3)` bytes as a PNG, pixel for pixel; the page enlarges it.

    Source: W3C, "Portable Network Graphics", second edition.
    """
    height, width, channels = pixels.shape
    header = struct.pack(">2I5B", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(pixels))
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check
