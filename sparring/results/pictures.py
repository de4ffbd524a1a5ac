"""Show samples of a result beside their adversarial points, as pictures."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..component import require, require_at_least
from ..runtime.text import printable
from .shown import ShownResult

SIDE = 112  # pixels of a picture on the page, the least
PIXELS = "image-rendering:pixelated;outline:1px solid #8886"
KEYS = ("show_x", "show_x_adv", "show_y", "show_clean", "show_adv")


@dataclass(frozen=True)
class SamplePictures:
    """Hold a sample and its adversarial point as pictures `(h, w, c)` uint8, and what it is.

    Arguments:
        difference: x_adv − x around grey, stretched to the whole scale: `largest` is its end.
        label, pred: names of its class, and of the model's class for the adversarial point.
    """

    x: np.ndarray
    x_adv: np.ndarray
    difference: np.ndarray
    largest: float
    label: str
    pred: str
    robust: bool

    @property
    def caption(self) -> str:
        """What the model says of the adversarial point, with a sign that needs no colour."""
        return f"✓ still {self.label}" if self.robust else f"✗ {self.label} → {self.pred}"


class SampleGrid:
    """Hold samples, broken ones first; a notebook shows them, and `save` writes a picture."""

    def __init__(self, samples: list[SamplePictures], title: str) -> None:
        self.samples, self.title = samples, title

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        broken = sum(not s.robust for s in self.samples)
        return f"SampleGrid({len(self)} samples, {broken} broken; .save(path) writes a picture)"

    def _repr_html_(self) -> str:
        """Return the pictures for a notebook: clean, adversarial, difference, and a caption."""
        blocks = "".join(map(_block, self.samples))
        return (
            f"<div><div>{html.escape(self.title)}</div>"
            f'<div style="display:flex;flex-wrap:wrap;gap:16px;margin-top:8px">{blocks}</div></div>'
        )

    def save(self, path: str | Path) -> Path:
        """Write the pictures as a PNG, a row per sample: clean, adversarial, difference."""
        path = Path(path)
        require(path.suffix.lower() == ".png", "path", str(path), "the name of a .png file")
        rows = [np.concatenate(_padded(s), axis=1) for s in self.samples]
        path.write_bytes(_png(np.concatenate(rows)))
        return path


def samples(result: ShownResult, worst: int) -> SampleGrid:
    """Return at most `worst` of the samples that a result keeps, broken ones first.

    Raises:
        ValueError: for a stripped result, or samples that are no pictures.
    """
    require_at_least(1, worst=worst)
    if result.stripped or not set(KEYS) <= set(result.arrays):
        raise ValueError(
            f"{printable(result.name)} holds no pictures: it was stripped of them, or its .npz is "
            "not beside it; evaluate again"
        )
    x, x_adv, y, _, pred = (result.arrays[k] for k in KEYS)
    if not len(x):
        raise ValueError(f"{printable(result.name)} has no sample that is right without attack")
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        shape = tuple(x.shape[1:])
        raise ValueError(f"samples of shape {shape} are no pictures (1 or 3, height, width)")
    order = np.argsort(pred == y, kind="stable")[:worst]  # broken first, each in the data's order
    low, high = (float(result.threat.get(k, d)) for k, d in (("low", 0.0), ("high", 1.0)))
    shown = [_sample(result, x[i], x_adv[i], int(y[i]), int(pred[i]), (low, high)) for i in order]
    broken = int((pred != y).sum())
    title = f"{printable(result.name, 100)}: {broken} of the {len(x)} kept samples are broken"
    return SampleGrid(shown, title)


def _sample(
    result: ShownResult,
    x: np.ndarray,
    x_adv: np.ndarray,
    y: int,
    pred: int,
    box: tuple[float, float],
) -> SamplePictures:
    change = np.nan_to_num(x_adv.astype(np.float64) - x)
    largest = float(np.abs(change).max())
    grey = 0.5 + 0.5 * change / (largest or 1.0)
    label, adversarial = (_class_name(result, k) for k in (y, pred))
    pictures = _picture(x, *box), _picture(x_adv, *box), _picture(grey, 0.0, 1.0)
    return SamplePictures(*pictures, largest, label, adversarial, y == pred)


def _class_name(result: ShownResult, k: int) -> str:
    known = 0 <= k < len(result.class_names)
    return printable(result.class_names[k], 40) if known else "no finite logits"


def _picture(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return `(c, h, w)` in [low, high] as `(h, w, 3)` uint8."""
    unit = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
    picture = np.rint(255 * unit).astype(np.uint8).transpose(1, 2, 0)
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture


def _block(sample: SamplePictures) -> str:
    named = (("clean", sample.x), ("adversarial", sample.x_adv), ("difference", sample.difference))
    caption = html.escape(sample.caption)
    tone = "#2a8f5b" if sample.robust else "#c8472f"
    images = "".join(
        f'<img alt="{name}: {caption}" width="{SIDE}" style="{PIXELS}" '
        f'src="data:image/png;base64,{base64.b64encode(_png(picture)).decode()}">'
        for name, picture in named
    )
    return (
        f'<figure style="margin:0"><div style="display:flex;gap:4px">{images}</div>'
        f'<figcaption><span style="color:{tone};font-weight:600">{caption}</span> '
        f"<small>difference at most ± {sample.largest:.3g}</small></figcaption></figure>"
    )


def _padded(sample: SamplePictures) -> list[np.ndarray]:
    """Return the three pictures, magnified by whole numbers, with a white edge."""
    scale = max(1, round(SIDE / sample.x.shape[0]))
    large = [
        p.repeat(scale, 0).repeat(scale, 1) for p in (sample.x, sample.x_adv, sample.difference)
    ]
    return [np.pad(p, ((4, 4), (4, 4), (0, 0)), constant_values=255) for p in large]


def png_bytes(pixels: np.ndarray) -> bytes:
    """Return uint8 pixels `(c, h, w)`, c = 1 or 3, as a PNG file."""
    return _png(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image  # takes time to import, and only pictures need it

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
