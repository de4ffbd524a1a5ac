"""Operations of a network as bounds see them: an interval forward, a linear lower bound backward.

Letters: b batch, m rows of a specification, *s the shape of one sample's activation. Everything is
float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn import grad as nn_grad


class Box(NamedTuple):
    """Every value between `low` and `high`, both `(b, *s)`."""

    low: Tensor
    high: Tensor


class Op:
    """One operation: what its output may be, and how a bound on the output becomes one on the
    input.

    `affine` ones lose nothing on the way back; `boxes` are those of the inputs.
    """

    affine = True

    def interval(self, *boxes: Box) -> Box:
        """The output's box `(b, *s')`."""
        raise NotImplementedError

    def back(self, a: Tensor, *boxes: Box) -> tuple[list[Tensor], Tensor]:
        """For `a (b, m, *s')`: coefficients `(b, m, *s)` of each input and a constant `(b, m)`.

        Σ a·output ≥ Σ coefficients·inputs + constant, for all inputs in their boxes.
        """
        raise NotImplementedError


def total(a: Tensor) -> Tensor:
    """The sum over all but the first two dimensions, `(b, m)`."""
    return a.flatten(2).sum(2) if a.ndim > 2 else a


def folded(a: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """`function` of `a (b, m, *s)` with its first two dimensions as one."""
    out = function(a.flatten(0, 1))
    return out.reshape(*a.shape[:2], *out.shape[1:])


class Dense(Op):
    """W·h + bias over the last dimension."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias

    def interval(self, *boxes: Box) -> Box:
        return _middle(boxes[0], self.apply, lambda r: self.spread(r, 1))

    def apply(self, h: Tensor) -> Tensor:
        """The output at a point."""
        return F.linear(h, self.weight, self.bias)

    def spread(self, r: Tensor, power: int) -> Tensor:
        """|W|^power · r."""
        return F.linear(r, self.weight.abs() ** power)

    def back(self, a: Tensor, *boxes: Box) -> tuple[list[Tensor], Tensor]:
        constant = total(a * 0 if self.bias is None else a * self.bias)
        return [a @ self.weight], constant


class Conv(Op):
    """A convolution with zero padding; `rest` are its stride, padding, dilation and groups."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *rest: int | Sequence[int]) -> None:
        self.weight, self.bias, self.rest = weight, bias, rest

    def interval(self, *boxes: Box) -> Box:
        return _middle(boxes[0], self.apply, lambda r: self.spread(r, 1))

    def apply(self, h: Tensor) -> Tensor:
        """The output at a point."""
        return F.conv2d(h, self.weight, self.bias, *self.rest)  # type: ignore[arg-type]

    def spread(self, r: Tensor, power: int) -> Tensor:
        """|W|^power · r."""
        return F.conv2d(r, self.weight.abs() ** power, None, *self.rest)  # type: ignore[arg-type]

    def back(self, a: Tensor, *boxes: Box) -> tuple[list[Tensor], Tensor]:
        shape = boxes[0].low.shape[1:]

        def turned(rows: Tensor) -> Tensor:
            size = (len(rows), *shape)
            return nn_grad.conv2d_input(size, self.weight, rows, *self.rest)  # type: ignore

        constant = a.sum((3, 4)) @ self.bias if self.bias is not None else total(a * 0)
        return [folded(a, turned)], constant


class Scale(Op):
    """scale·h + shift, number by number: normalisation, batch norm, a constant."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        self.scale, self.shift = scale, shift

    def interval(self, *boxes: Box) -> Box:
        return _middle(boxes[0], self.apply, lambda r: self.scale.abs() * r)

    def apply(self, h: Tensor) -> Tensor:
        """The output at a point."""
        return self.scale * h + self.shift

    def back(self, a: Tensor, *boxes: Box) -> tuple[list[Tensor], Tensor]:
        return [a * self.scale], total(a * self.shift)


class Reshape(Op):
    """The same numbers in another shape."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)

    def interval(self, *boxes: Box) -> Box:
        return Box(*(self.apply(side) for side in boxes[0]))

    def apply(self, h: Tensor) -> Tensor:
        """The output at a point."""
        return h.reshape(len(h), *self.shape)

    def back(self, a: Tensor, *boxes: Box) -> tuple[list[Tensor], Tensor]:
        return [a.reshape(*a.shape[:2], *boxes[0].low.shape[1:])], total(a * 0)


class Mean(Op):
    """Average pooling: linear, with weights ≥ 0."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def interval(self, *boxes: Box) -> Box:
        return Box(*(self.function(side) for side in boxes[0]))

    def back(self, a: Tensor, *boxes: Box) -> tuple[list[Tensor], Tensor]:
        shape = boxes[0].low.shape[1:]

        def turned(rows: Tensor) -> Tensor:
            with torch.enable_grad():
                at = rows.new_zeros(len(rows), *shape, requires_grad=True)
                return torch.autograd.grad(self.function(at), at, rows)[0]

        return [folded(a, turned)], total(a * 0)


class Add(Op):
    """The sum of two activations of one shape."""

    def interval(self, *boxes: Box) -> Box:
        one, other = boxes
        return Box(one.low + other.low, one.high + other.high)

    def back(self, a: Tensor, *boxes: Box) -> tuple[list[Tensor], Tensor]:
        return [a, a], total(a * 0)


class Relu(Op):
    """max(h, 0). Where low < 0 < high: slope·h ≤ relu(h) ≤ high·(h − low)/(high − low).

    The lower slope is 1 where high > −low, else 0.

    Source: Zhang et al. 2018, table 3 and the adaptive choice of their section 3.3.
    """

    affine = False

    def interval(self, *boxes: Box) -> Box:
        return Box(*(side.clamp_min(0) for side in boxes[0]))

    def back(self, a: Tensor, *boxes: Box) -> tuple[list[Tensor], Tensor]:
        low, high = boxes[0]
        on, off = low >= 0, high <= 0
        chord = torch.where(on, 1.0, torch.where(off, 0.0, high / (high - low).clamp_min(1e-300)))
        slope = torch.where(off, 0.0, torch.where(on | (high > -low), 1.0, 0.0)).to(low.dtype)
        lift = torch.where(on | off, 0.0, -chord * low)
        return _sided(a, (slope, 0 * lift), (chord, lift))


class Curve(Op):
    """A rising function whose slope over an interval is least at an end: tanh, sigmoid, leaky ReLU.

    With s the smaller slope at the ends: f(low) + s·(h − low) ≤ f(h) ≤ f(high) + s·(h − high).
    """

    affine = False

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def interval(self, *boxes: Box) -> Box:
        return Box(*(self.function(side) for side in boxes[0]))

    def back(self, a: Tensor, *boxes: Box) -> tuple[list[Tensor], Tensor]:
        low, high = boxes[0]
        slope = torch.minimum(self._slope(low), self._slope(high))
        ends = [self.function(side) - slope * side for side in (low, high)]
        return _sided(a, (slope, ends[0]), (slope, ends[1]))

    def _slope(self, h: Tensor) -> Tensor:
        with torch.enable_grad():
            at = h.detach().clone().requires_grad_()
            return torch.autograd.grad(self.function(at).sum(), at)[0]


class Max(Op):
    """Max-pooling: h_j ≤ max h ≤ the largest high, j the place with the largest low.

    Where that low is at least every other high of the window, max h = h_j.
    """

    affine = False

    def __init__(self, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]):
        self.kernel, self.stride = tuple(kernel), tuple(stride)
        self.pad = (padding[1], padding[1], padding[0], padding[0])

    def interval(self, *boxes: Box) -> Box:
        return Box(*(self._pool(side) for side in boxes[0]))

    def back(self, a: Tensor, *boxes: Box) -> tuple[list[Tensor], Tensor]:
        low, high = boxes[0]
        lows, highs = self._windows(low), self._windows(high)  # (b, c, kernel, places)
        best = lows.argmax(2, keepdim=True)
        others = highs.scatter(2, best, -torch.inf).amax(2)
        sure = lows.gather(2, best).squeeze(2) >= others
        where = torch.arange(low[0, 0].numel(), dtype=low.dtype, device=low.device)
        place = self._windows(where.reshape(1, 1, *low.shape[2:]))
        place = place.expand(*low.shape[:2], -1, -1).gather(2, best).squeeze(2).long()
        flat = a.flatten(3)
        above = torch.where(sure, 0.0, highs.amax(2))[:, None]
        kept = torch.where(sure[:, None], flat, flat.clamp_min(0))
        out = flat.new_zeros(*flat.shape[:3], where.numel())
        out = out.scatter_add(3, place[:, None].expand_as(kept), kept)
        constant = total(flat.clamp_max(0) * above)
        return [out.reshape(*a.shape[:2], *low.shape[1:])], constant

    def _pool(self, h: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(h, self.pad, value=-torch.inf), self.kernel, self.stride)

    def _windows(self, h: Tensor) -> Tensor:
        """Every window `(b, c, kernel, places)`; what padding adds is −inf."""
        h = F.pad(h, self.pad, value=-torch.inf)
        for side in (0, 1):
            h = h.unfold(2 + side, self.kernel[side], self.stride[side])
        return h.flatten(4).flatten(2, 3).transpose(2, 3)


Line = tuple[Tensor, Tensor]  # slope and height at 0, each `(b, *s)`


def _sided(a: Tensor, below: Line, above: Line) -> tuple[list[Tensor], Tensor]:
    """The lower bound of Σ a·f(h): `below` f where a ≥ 0, `above` it elsewhere."""
    plus, minus = a.clamp_min(0), a.clamp_max(0)
    slope, height = (
        plus * under[:, None] + minus * over[:, None]
        for under, over in zip(below, above, strict=True)
    )
    return [slope], total(height)


def _middle(box: Box, at: Callable[[Tensor], Tensor], spread: Callable[[Tensor], Tensor]) -> Box:
    """The box of an affine map: its value at the middle, give or take the spread of the radius."""
    centre, radius = at((box.low + box.high) / 2), spread((box.high - box.low) / 2)
    return Box(centre - radius, centre + radius)
