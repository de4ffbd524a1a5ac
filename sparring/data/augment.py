"""Augmentation in batches, on the device: every sample draws its own, no Python loop over samples."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import dist
from ..part import Part, require


class Augment(Part):
    """A random change of inputs `(b, *d)` inside [0, 1] that keeps their labels: `piece(x, generator)`."""

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Changed inputs of the same shape, dtype and device."""
        raise NotImplementedError


def _uniform(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """One draw a sample `(b,)`, in [0, 1)."""
    return dist.draw("uniform", x.new_empty(len(x)), generator)


def _integers(x: Tensor, least: int, most: int, generator: torch.Generator | None) -> Tensor:
    draw = _uniform(x, generator) * (most - least + 1)
    return draw.long().clamp_max(most - least) + least


def _images(x: Tensor, name: str) -> None:
    if x.ndim != 4:
        raise ValueError(f"{name} works on images (b, c, h, w), this batch is {tuple(x.shape)}")


def _moved(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Each image moved by whole pixels, zeros where nothing was."""
    h, w = x.shape[2:]
    i = torch.arange(h, device=x.device)[None] - down[:, None]
    j = torch.arange(w, device=x.device)[None] - right[:, None]
    here = ((i >= 0) & (i < h))[:, None, :, None] & ((j >= 0) & (j < w))[:, None, None, :]
    sample = torch.arange(len(x), device=x.device)[:, None, None]
    # the sliced dimension stays in the middle: (b, h, w, c) is what advanced indexing returns
    out = x[sample, :, i.clamp(0, h - 1)[:, :, None], j.clamp(0, w - 1)[:, None, :]].movedim(-1, 1)
    return torch.where(here, out, x.new_zeros(())).contiguous()


class Flip(Augment):
    """Mirror left and right with probability `p`.

    >>> Flip(p=1.0)(torch.tensor([[[[1.0, 0.0]]]])).tolist()
    [[[[0.0, 1.0]]]]
    """

    def __init__(self, *, p: float = 0.5) -> None:
        super().__init__()
        require(0 <= p <= 1, "p", p, "a probability in [0, 1]")
        self.p = p

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        _images(x, "Flip")
        return torch.where((_uniform(x, generator) < self.p)[:, None, None, None], x.flip(3), x)


class Shift(Augment):
    """Move by up to `pixels` in each direction, zeros where nothing was."""

    def __init__(self, *, pixels: int = 2) -> None:
        super().__init__()
        require(pixels >= 0, "pixels", pixels, "a whole number ≥ 0")
        self.pixels = pixels

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        _images(x, "Shift")
        down = _integers(x, -self.pixels, self.pixels, generator)
        return _moved(x, down, _integers(x, -self.pixels, self.pixels, generator))


class Crop(Augment):
    """Pad by `pad` zeros and cut the original size out at random: the usual CIFAR crop, a shift of up to `pad`."""

    def __init__(self, *, pad: int = 4) -> None:
        super().__init__()
        require(pad >= 0, "pad", pad, "a whole number ≥ 0")
        self.pad = pad

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        _images(x, "Crop")
        down = _integers(x, -self.pad, self.pad, generator)
        return _moved(x, down, _integers(x, -self.pad, self.pad, generator))


class Cutout(Augment):
    """Zero a square of `size` pixels around a random centre. Source: DeVries and Taylor 2017."""

    def __init__(self, *, size: int = 8) -> None:
        super().__init__()
        require(size >= 1, "size", size, "a whole number ≥ 1")
        self.size = size

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        _images(x, "Cutout")
        h, w = x.shape[2:]
        top = _integers(x, 0, h - 1, generator)[:, None] - self.size // 2
        left = _integers(x, 0, w - 1, generator)[:, None] - self.size // 2
        i, j = torch.arange(h, device=x.device)[None], torch.arange(w, device=x.device)[None]
        rows, columns = (i >= top) & (i < top + self.size), (j >= left) & (j < left + self.size)
        return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


class Noise(Augment):
    """Add N(0, std²) and clip to [0, 1]; `std` in input units."""

    def __init__(self, *, std: float = 0.05) -> None:
        super().__init__()
        require(std >= 0, "std", std, "a standard deviation ≥ 0 in input units")
        self.std = std

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return (x + self.std * dist.draw("normal", x, generator)).clamp(0, 1)
