"""Plan which part of each layer sees a window of the input, for every position of the window."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .folded import Layer, Pair, Window

MAX_ENTRIES = 2**24  # of one table
BORDERS = (0.0, -math.inf)  # what a border counts as; each is a pixel after every image in memory


@dataclass
class Span:
    """Hold a stretch of one axis per position p of the window: `start (p,)`, and its length."""

    start: Tensor
    length: int

    def pixels(self) -> Tensor:
        """Return the stretch's pixels `(p, length)`."""
        return self.start[:, None] + torch.arange(self.length)

    def within(self, side: int) -> Span:
        """Return the stretch moved, or cut, so that it lies in 0..side−1."""
        length = min(max(self.length, 1), side)
        return Span(self.start.clamp(0, side - length), length)

    def slid(self, window: Window, axis: int) -> Span:
        """Return the stretch of a sliding layer's output that sees this one."""
        stride, before = window.stride[axis], self.start + window.padding[axis]
        first = -((window.reach(axis) - 1 - before) // stride)
        last = (before + self.length - 1) // stride
        return Span(first, int((last - first).max()) + 1)

    def seen(self, window: Window, axis: int) -> Span:
        """Return the stretch of a sliding layer's input, border included, that this one sees."""
        stride = window.stride[axis]
        start = self.start * stride - window.padding[axis]
        return Span(start, (self.length - 1) * stride + window.reach(axis))


class PlanTooLarge(Exception):
    """Say that a plan would hold too many positions."""


Region = tuple[Span, Span]  # of height and width


@dataclass
class Read:
    """Hold how a layer reads layer `source`'s image, with the new values in it.

    Arguments:
        table: `(positions, h·w)` pixels, as numbers within a sample's row of memory.
        size: (h, w) of what is read.
    """

    source: int
    table: Tensor
    size: Pair


@dataclass
class Part:
    """Hold how one layer runs for a window of one size.

    Arguments:
        region: of the output that is computed; None: all of it.
        reads: per input; None: the input as it was computed for this window.
        slides: the read has the layer's border.
    """

    region: Region | None
    reads: list[Read | None] = field(default_factory=list)
    slides: bool = False

    @property
    def pixels(self) -> int:
        """Return the size of the region, 0 if it is everything."""
        return 0 if self.region is None else self.region[0].length * self.region[1].length


class WindowPlan:
    """Plan how each layer runs for a window of `sides` (h, w), at any position in the input.

    Attributes:
        parts: one per layer.
        kept: the layers whose images of the best points are read, each with the table of where its
            region lies in its image `(positions, pixels)`.
        macs: multiplications of one sample.
        moved: bytes of one sample that are read from images and written to them, in `num_reads`.

    Raises:
        PlanTooLarge: where a table would have more than `MAX_ENTRIES`.
    """

    def __init__(self, layers: Sequence[Layer], sides: Pair) -> None:
        self.layers, self.sides, self.parts = layers, sides, list[Part]()
        for layer in layers:
            self.parts.append(self._part(layer))
        reads = [read for part in self.parts for read in part.reads if read is not None]
        self.kept = {i: self._written(i) for i in sorted({read.source for read in reads})}
        self.macs = sum(map(_macs, layers, self.parts))
        self.moved = sum(self._bytes(r.source, math.prod(r.size)) for r in reads)
        self.moved += sum(self._bytes(i, self.parts[i].pixels) for i in self.kept)
        self.num_reads = len(reads)
        self.table_bytes = sum(read.table.nbytes for read in reads)

    def row_pixels(self, i: int) -> int:
        """Return the pixels of a sample's row in memory: the image of a kept layer, the new values
        of its region, and the borders."""
        return math.prod(self.layers[i].shape[1:]) + self.parts[i].pixels + len(BORDERS)

    def row_bytes(self) -> int:
        """Return the bytes of a sample's rows of all kept layers."""
        return sum(self._bytes(i, self.row_pixels(i)) for i in self.kept)

    def _bytes(self, i: int, pixels: int) -> int:
        return pixels * self.layers[i].shape[0] * self.layers[i].dtype.itemsize

    def _part(self, layer: Layer) -> Part:
        if not layer.inputs:
            positions = zip(layer.shape[1:], self.sides, strict=True)
            height, width = (Span(torch.arange(n - s + 1), s) for n, s in positions)
            return Part((height, width))
        region = self._region(layer)
        if region is None:
            reads = [self._whole(i) for i in layer.inputs]
        elif layer.window is not None:
            height, width = (region[k].seen(layer.window, k) for k in (0, 1))
            reads = [self._read(layer.inputs[0], (height, width), layer.window.fill)]
            return Part(region, reads, slides=True)
        else:
            reads = [self._read(i, region) for i in layer.inputs]
        return Part(region, reads)

    def _region(self, layer: Layer) -> Region | None:
        """Return what of a layer's output differs; None: everything, or no part of an image."""
        before = [self.parts[i].region for i in layer.inputs]
        known = [region for region in before if region is not None]
        if len(known) < len(before) or not (layer.window or layer.pointwise):
            return None
        if layer.window is not None:
            spans = [known[0][k].slid(layer.window, k) for k in (0, 1)]
        else:
            spans = [_joint([region[k] for region in known]) for k in (0, 1)]
        height, width = (s.within(side) for s, side in zip(spans, layer.shape[1:], strict=True))
        return None if (height.length, width.length) == layer.shape[1:] else (height, width)

    def _whole(self, i: int) -> Read | None:
        region = self.parts[i].region
        if region is None:
            return None
        sides = zip(region, self.layers[i].shape[1:], strict=True)
        height, width = (Span(torch.zeros_like(span.start), side) for span, side in sides)
        return self._read(i, (height, width))

    def _read(self, i: int, wanted: Region, fill: float = 0.0) -> Read | None:
        """Return the read of a region of layer i, None if that is what was computed."""
        new = self.parts[i].region
        assert new is not None
        (rows, columns), (_, h, w) = wanted, self.layers[i].shape
        if all(
            a.length == b.length and torch.equal(a.start, b.start)
            for a, b in zip(wanted, new, strict=True)
        ):
            return None
        down, along = rows.pixels(), columns.pixels()
        old = _outer(torch.add, down * w, along)
        inside = _outer(torch.logical_and, _in(down, 0, h), _in(along, 0, w))
        fresh_down, fresh_along = (
            t - s.start[:, None] for t, s in zip((down, along), new, strict=True)
        )
        fresh = h * w + _outer(torch.add, fresh_down * new[1].length, fresh_along)
        changed = _in(fresh_down, 0, new[0].length), _in(fresh_along, 0, new[1].length)
        border = h * w + self.parts[i].pixels + BORDERS.index(fill)
        table = torch.where(inside, old, border)
        table = torch.where(_outer(torch.logical_and, *changed), fresh, table)
        return Read(i, table.int(), (rows.length, columns.length))

    def _written(self, i: int) -> Tensor:
        region = self.parts[i].region
        assert region is not None
        rows, columns = (span.pixels() for span in region)
        return _outer(torch.add, rows * self.layers[i].shape[2], columns)


def _joint(spans: Sequence[Span]) -> Span:
    """Return the stretch that holds all of these at every position."""
    start = torch.stack([s.start for s in spans]).amin(0)
    end = torch.stack([s.start + s.length for s in spans]).amax(0)
    return Span(start, int((end - start).max()))


def _in(t: Tensor, low: int, high: int) -> Tensor:
    return (t >= low) & (t < high)


def _outer(combine: Callable[[Tensor, Tensor], Tensor], rows: Tensor, columns: Tensor) -> Tensor:
    """Combine `rows (p, m)` and `columns (q, n)` at all pairs: `(p·q, m·n)`."""
    if rows.numel() * columns.numel() > MAX_ENTRIES:
        raise PlanTooLarge
    return combine(rows[:, None, :, None], columns[:, None]).flatten(2).flatten(0, 1)


def _macs(layer: Layer, part: Part) -> float:
    share = part.pixels / math.prod(layer.shape[1:]) if part.region is not None else 1.0
    return layer.macs * share
