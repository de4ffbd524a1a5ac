"""Augment whole batches on the device: a draw per sample, without a loop over samples."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ..component import Component, require, require_at_least
from ..runtime import distributed


class Augment(Component):
    """Base of random changes of inputs `(b, *d)`: `piece(x, generator)` keeps bounds.

    Ranks together get the draws that one process would get for the joint batch.

    Attributes:
        places: of pixels: "kept" if each stays where it is, "moved" if whole pixels move, all
            channels of an image alike, and zeros fill the rest; default: "mixed", anything.
    """

    places: ClassVar[str] = "mixed"

    @property
    def mixes_labels(self) -> bool:
        """Whether labels become probabilities `(b, k)`, so that the piece needs them."""
        return False

    def prepare(self, source: Any) -> None:
        """Take what the piece needs to know of the data, before the first batch."""

    def apply_to(
        self, x: Tensor, y: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return changed inputs and their labels; by default the labels stay."""
        return self(x, generator), y

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return changed inputs of the same shape, type and device; `x` itself is not changed."""
        raise NotImplementedError


def _uniform(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return distributed.draw("uniform", torch.empty(len(x), device=x.device), generator)


def _integers(x: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Draw one of 0..count-1 per sample `(b,)`."""
    return (_uniform(x, generator) * count).long().clamp_(max=count - 1)


def _require_zero(source: Any, name: str) -> None:
    """Raise `ValueError` where 0, which the piece fills with, is no value that inputs may have."""
    low, high = source.bounds
    allowed = f"around 0, which {name} fills with"
    require(low <= 0 <= high, f"bounds of {source.name}", (low, high), allowed)


def _require_images(x: Tensor, name: str) -> None:
    if x.ndim != 4:
        raise ValueError(f"{name} changes images (b, c, h, w); this batch is {tuple(x.shape)}")


def _shift(x: Tensor, by: int, generator: torch.Generator | None, name: str) -> Tensor:
    """Move each image by -by..by pixels down and right."""
    _require_images(x, name)
    h, w = x.shape[2:]
    # unfold makes views of all windows of the padded images: only the chosen ones are copied
    windows = functional.pad(x, (by, by, by, by)).unfold(2, h, 1).unfold(3, w, 1)
    top, left = (_integers(x, 2 * by + 1, generator) for _ in range(2))
    return windows[torch.arange(len(x), device=x.device), :, top, left]


class Flip(Augment):
    """Mirror left and right with probability `p`.

    >>> Flip(p=1.0)(torch.tensor([[[[1.0, 0.0]]]])).tolist()
    [[[[0.0, 1.0]]]]
    """

    places = "moved"

    def __init__(self, *, p: float = 0.5) -> None:
        super().__init__()
        require(0 <= p <= 1, "p", p, "a probability from 0 to 1")
        self.p = p

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        _require_images(x, "Flip")
        return torch.where((_uniform(x, generator) < self.p)[:, None, None, None], x.flip(3), x)


class Shift(Augment):
    """Move by up to `pixels` up or down and left or right; fill with zeros.

    Raises:
        ValueError: in `prepare`, for data whose bounds leave 0 out.

    >>> Shift(pixels=0)(torch.ones(1, 1, 1, 2)).tolist()
    [[[[1.0, 1.0]]]]
    """

    places = "moved"

    def __init__(self, *, pixels: int = 2) -> None:
        super().__init__()
        require_at_least(0, pixels=pixels)
        self.pixels = pixels

    def prepare(self, source: Any) -> None:
        _require_zero(source, "Shift")

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return _shift(x, self.pixels, generator, "Shift")


class Crop(Augment):
    """Pad by `pad` zeros on each side and crop the old size at random: the usual crop for CIFAR.

    Raises:
        ValueError: in `prepare`, for data whose bounds leave 0 out.

    >>> Crop(pad=4)(torch.ones(2, 3, 32, 32)).shape
    torch.Size([2, 3, 32, 32])
    """

    places = "moved"

    def __init__(self, *, pad: int = 4) -> None:
        super().__init__()
        require_at_least(0, pad=pad)
        self.pad = pad

    def prepare(self, source: Any) -> None:
        _require_zero(source, "Crop")

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return _shift(x, self.pad, generator, "Crop")


class Cutout(Augment):
    """Zero a square of `size` pixels around a random pixel; it may reach over the border.

    Source: DeVries and Taylor 2017.

    Raises:
        ValueError: in `prepare`, for data whose bounds leave 0 out.

    >>> Cutout(size=2)(torch.ones(1, 1, 1, 1)).tolist()
    [[[[0.0]]]]
    """

    places = "kept"

    def __init__(self, *, size: int = 8) -> None:
        super().__init__()
        require_at_least(1, size=size)
        self.size = size

    def prepare(self, source: Any) -> None:
        _require_zero(source, "Cutout")

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        _require_images(x, "Cutout")
        rows, columns = (self._inside(x, length, generator) for length in x.shape[2:])
        return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)

    def _inside(self, x: Tensor, length: int, generator: torch.Generator | None) -> Tensor:
        first = _integers(x, length, generator)[:, None] - self.size // 2
        position = torch.arange(length, device=x.device)[None]
        return (position >= first) & (position < first + self.size)


class GaussianNoise(Augment):
    """Add N(0, std²) and clip to the bounds; `std`, `low` and `high` in input units.

    Raises:
        ValueError: in `prepare`, if `low` and `high` are not the bounds of the data.

    >>> GaussianNoise(std=0.0)(torch.tensor([[0.5]]))
    tensor([[0.5000]])
    """

    places = "kept"

    def __init__(self, *, std: float = 0.05, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        require(std >= 0, "std", std, "a number ≥ 0")
        require(low < high, "low", low, f"below high = {high}")
        self.std, self.low, self.high = std, low, high

    def prepare(self, source: Any) -> None:
        # other bounds would clip rows before any noise: a part of their range would be lost
        for key, bound in zip(("low", "high"), source.bounds, strict=True):
            allowed = f"{bound:g}, the bound of {source.name}"
            require(getattr(self, key) == bound, key, getattr(self, key), allowed)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return (x + self.std * distributed.draw("normal", x, generator)).clamp_(self.low, self.high)
