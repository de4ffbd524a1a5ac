"""Propagate bounds through operations: intervals forward, linear lower bounds backward.

Letters: b batch, m rows of a specification, *s one sample's shape. Everything is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn import grad as nn_grad


class Bounds(NamedTuple):
    """Hold a lower and an upper bound of each value, `(b, *s)` both."""

    low: Tensor
    high: Tensor


UNIT = 2.0**-24  # largest relative error of one rounding to float32


def magnitude(bounds: Bounds) -> Tensor:
    """Return the largest absolute value within the bounds `(b, *s)`."""
    return torch.maximum(bounds.low.abs(), bounds.high.abs())


class Op:
    """Map bounds on an operation's inputs to its output, and a bound on its output to its inputs.

    An `affine` operation loses nothing on the way back. `bounds` are those of the inputs.
    """

    affine = True

    def apply(self, *h: Tensor) -> Tensor:
        """Return the output at a point."""
        raise NotImplementedError

    def interval(self, *bounds: Bounds) -> Bounds:
        """Return bounds `(b, *s')` of the output; by default those of an increasing operation."""
        return Bounds(*(self.apply(*sides) for sides in zip(*bounds, strict=True)))

    def backward(self, a: Tensor, *bounds: Bounds) -> tuple[list[Tensor], Tensor]:
        """Return coefficients `(b, m, *s)` per input and a constant `(b, m)`, for `a (b, m, *s')`.

        Σ a·output ≥ Σ coefficients·inputs + constant, for all inputs within their bounds.
        """
        raise NotImplementedError

    def rounding(self, *bounds: Bounds) -> Tensor | None:
        """Return a bound `(b, *s')` of the output's rounding error in float32; None: it is exact.

        It holds for inputs within their bounds, whatever error they have themselves.
        """
        return None


def sum_units(a: Tensor) -> Tensor:
    """Return the sum `(b, m)` over all but the first two dimensions."""
    return a.flatten(2).sum(2) if a.ndim > 2 else a


def product(a: Tensor, h: Tensor) -> Tensor:
    """Return Σ a·h `(b, m)` over the units, for `a (b, m, *s)` and `h (b, *s)`."""
    return (a.flatten(2) @ h.flatten(1)[:, :, None])[..., 0] if a.ndim > 2 else a * h[:, None]


def map_rows(a: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply `function` to `a (b, m, *s)` with its first two dimensions as one."""
    out = function(a.flatten(0, 1))
    return out.reshape(*a.shape[:2], *out.shape[1:])


class MatrixOp(Op):
    """Compute W·h + bias, with W in any form.

    Attributes:
        terms: number of products in one output.
        shift: the bias, in a shape that broadcasts to the output; None: there is none.
    """

    terms: int
    shift: Tensor | None = None

    def apply_abs(self, r: Tensor, power: int) -> Tensor:
        """Return |W|^power · r."""
        raise NotImplementedError

    def interval(self, *bounds: Bounds) -> Bounds:
        low, high = bounds[0]
        centre, radius = self.apply((low + high) / 2), self.apply_abs((high - low) / 2, 1)
        return Bounds(centre - radius, centre + radius)

    def rounding(self, *bounds: Bounds) -> Tensor:
        """Return 2·(terms + 2)·u·(|W|·|h| + |bias|), u = 2⁻²⁴: any order of summation, and twice
        that for algorithms that sum products of sums, as Winograd's.

        Source: Higham 2002, eq. 3.5.
        """
        size = self.apply_abs(magnitude(bounds[0]), 1)
        size = size if self.shift is None else size + self.shift.abs()
        return 2 * (self.terms + 2) * UNIT * size


class DenseOp(MatrixOp):
    """Compute W·h + bias over the last dimension."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias, self.shift, self.terms = weight, bias, bias, weight.shape[1]

    def apply(self, h: Tensor) -> Tensor:
        return F.linear(h, self.weight, self.bias)

    def apply_abs(self, r: Tensor, power: int) -> Tensor:
        return F.linear(r, self.weight.abs() ** power)

    def backward(self, a: Tensor, *bounds: Bounds) -> tuple[list[Tensor], Tensor]:
        constant = sum_units(a * 0 if self.bias is None else a * self.bias)
        return [a @ self.weight], constant


class ConvOp(MatrixOp):
    """Convolve with zero padding; `rest` are stride, padding, dilation and groups."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *rest: int | Sequence[int]) -> None:
        self.weight, self.bias, self.rest = weight, bias, rest
        self.terms = weight[0].numel()
        self.shift = None if bias is None else bias[:, None, None]

    def apply(self, h: Tensor) -> Tensor:
        return F.conv2d(h, self.weight, self.bias, *self.rest)  # type: ignore[arg-type]

    def apply_abs(self, r: Tensor, power: int) -> Tensor:
        return F.conv2d(r, self.weight.abs() ** power, None, *self.rest)  # type: ignore[arg-type]

    def backward(self, a: Tensor, *bounds: Bounds) -> tuple[list[Tensor], Tensor]:
        shape = bounds[0].low.shape[1:]

        def transpose(rows: Tensor) -> Tensor:
            size = (len(rows), *shape)
            return nn_grad.conv2d_input(size, self.weight, rows, *self.rest)  # type: ignore

        constant = a.sum((3, 4)) @ self.bias if self.bias is not None else sum_units(a * 0)
        return [map_rows(a, transpose)], constant


class ScaleOp(MatrixOp):
    """Compute scale·h + shift elementwise: normalisation, batch norm, a constant.

    Arguments:
        parts: sum of the magnitudes of the numbers that `shift` is computed of; default: its own.
    """

    terms = 4  # (h − mean) / std · weight + bias
    shift: Tensor  # type: ignore[assignment]

    def __init__(self, scale: Tensor, shift: Tensor, parts: Tensor | None = None) -> None:
        self.scale, self.shift = scale, shift
        self.parts = shift.abs() if parts is None else parts

    def rounding(self, *bounds: Bounds) -> Tensor:
        """Return the same bound as of a matrix, with the parts of the shift for the bias."""
        size = self.apply_abs(magnitude(bounds[0]), 1) + self.parts
        return 2 * (self.terms + 2) * UNIT * size

    def apply(self, h: Tensor) -> Tensor:
        return self.scale * h + self.shift

    def apply_abs(self, r: Tensor, power: int) -> Tensor:
        return self.scale.abs() ** power * r

    def backward(self, a: Tensor, *bounds: Bounds) -> tuple[list[Tensor], Tensor]:
        return [a * self.scale], sum_units(a * self.shift)


class ReshapeOp(Op):
    """Reshape the numbers of a sample."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)

    def apply(self, h: Tensor) -> Tensor:
        return h.reshape(len(h), *self.shape)

    def backward(self, a: Tensor, *bounds: Bounds) -> tuple[list[Tensor], Tensor]:
        return [a.reshape(*a.shape[:2], *bounds[0].low.shape[1:])], sum_units(a * 0)


class MeanOp(Op):
    """Pool by averages: linear, with weights ≥ 0; `terms` is the size of the largest window."""

    def __init__(self, function: Callable[..., Tensor], terms: int) -> None:
        self.apply, self.terms = function, terms

    def rounding(self, *bounds: Bounds) -> Tensor:
        """Return 2·(terms + 2)·u times the average of |h|."""
        return 2 * (self.terms + 2) * UNIT * self.apply(magnitude(bounds[0]))

    def backward(self, a: Tensor, *bounds: Bounds) -> tuple[list[Tensor], Tensor]:
        shape = bounds[0].low.shape[1:]

        def transpose(rows: Tensor) -> Tensor:
            with torch.enable_grad():
                # Average pooling is linear: its gradient, at any point, is its transpose.
                h = rows.new_zeros(len(rows), *shape, requires_grad=True)
                return torch.autograd.grad(self.apply(h), h, rows)[0]

        return [map_rows(a, transpose)], sum_units(a * 0)


class AddOp(Op):
    """Add two activations of one shape."""

    def apply(self, *h: Tensor) -> Tensor:
        return h[0] + h[1]

    def rounding(self, *bounds: Bounds) -> Tensor:
        """Return 2·u·(|h₀| + |h₁|)."""
        return 2 * UNIT * (magnitude(bounds[0]) + magnitude(bounds[1]))

    def backward(self, a: Tensor, *bounds: Bounds) -> tuple[list[Tensor], Tensor]:
        return [a, a], sum_units(a * 0)


class JoinOp(Op):
    """Concatenate activations along a dimension, counted with the batch's."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def apply(self, *h: Tensor) -> Tensor:
        return torch.cat(h, self.dim)

    def backward(self, a: Tensor, *bounds: Bounds) -> tuple[list[Tensor], Tensor]:
        sizes = [side.low.shape[self.dim] for side in bounds]
        return list(a.split(sizes, self.dim + 1)), sum_units(a * 0)


class ReluOp(Op):
    """Compute max(h, 0). Where low < 0 < high: slope·h ≤ relu(h) ≤ high·(h − low)/(high − low).

    The lower slope is 1 where high > −low, else 0.

    Source: Zhang et al. 2018, table 3 and the adaptive choice of their section 3.3.
    """

    affine = False

    def apply(self, h: Tensor) -> Tensor:
        return h.clamp_min(0)

    def backward(self, a: Tensor, *bounds: Bounds) -> tuple[list[Tensor], Tensor]:
        low, high = bounds[0]
        # 1e-300 only keeps the branch that `where` discards free of 0/0.
        always_active, never_active, width = low >= 0, high <= 0, (high - low).clamp_min(1e-300)
        chord = torch.where(always_active, 1.0, torch.where(never_active, 0.0, high / width))
        slope = (~never_active & (always_active | (high > -low))).to(low.dtype)
        lift = torch.where(always_active | never_active, 0.0, -chord * low)
        # The line below goes through 0: only the one above has a height.
        rows = a * torch.where(a >= 0, slope[:, None], chord[:, None])
        return [rows], product(a.clamp_max(0), lift)


class CurveOp(Op):
    """Apply tanh, sigmoid or leaky ReLU: increasing, the smallest slope on an interval at an end.

    With s the smaller slope at the ends: f(low) + s·(h − low) ≤ f(h) ≤ f(high) + s·(h − high).
    """

    affine = False

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.apply = function

    def rounding(self, *bounds: Bounds) -> Tensor:
        """Return 8·u·max(1, |f|): the functions of PyTorch are right to a few units."""
        ends = Bounds(*(self.apply(side) for side in bounds[0]))
        return 8 * UNIT * magnitude(ends).clamp_min(1)

    def backward(self, a: Tensor, *bounds: Bounds) -> tuple[list[Tensor], Tensor]:
        low, high = bounds[0]
        slope = torch.minimum(self._slope(low), self._slope(high))
        ends = [self.apply(side) - slope * side for side in (low, high)]
        return _two_sided(a, (slope, ends[0]), (slope, ends[1]))

    def _slope(self, h: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = h.detach().clone().requires_grad_()
            return torch.autograd.grad(self.apply(leaf).sum(), leaf)[0]


class MaxOp(Op):
    """Pool by maxima: h_j ≤ max h ≤ the largest high, j the position with the largest low.

    Where that low is at least every other high in the window, max h = h_j.
    """

    affine = False

    def __init__(self, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]):
        self.kernel, self.stride = tuple(kernel), tuple(stride)
        self.pad = (padding[1], padding[1], padding[0], padding[0])

    def apply(self, h: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(h, self.pad, value=-torch.inf), self.kernel, self.stride)

    def backward(self, a: Tensor, *bounds: Bounds) -> tuple[list[Tensor], Tensor]:
        low, high = bounds[0]
        lows, highs = self._windows(low), self._windows(high)  # (b, c, kernel, windows)
        best = lows.argmax(2, keepdim=True)
        others = highs.scatter(2, best, -torch.inf).amax(2)
        is_max = lows.gather(2, best).squeeze(2) >= others
        # The position in the image of each window's best entry, read by pooling the indices.
        indices = torch.arange(low[0, 0].numel(), dtype=low.dtype, device=low.device)
        position = self._windows(indices.reshape(1, 1, *low.shape[2:]))
        position = position.expand(*low.shape[:2], -1, -1).gather(2, best).squeeze(2).long()
        flat = a.flatten(3)
        above = torch.where(is_max, 0.0, highs.amax(2))[:, None]
        exact = torch.where(is_max[:, None], flat, flat.clamp_min(0))
        out = flat.new_zeros(*exact.shape[:3], indices.numel())
        out = out.scatter_add(3, position[:, None].expand_as(exact), exact)
        constant = sum_units(flat.clamp_max(0) * above)
        return [out.reshape(*out.shape[:2], *low.shape[1:])], constant

    def _windows(self, h: Tensor) -> Tensor:
        """Return each window's values `(b, c, kernel, windows)`, −inf in the padding."""
        h = F.pad(h, self.pad, value=-torch.inf)
        for side in (0, 1):
            h = h.unfold(2 + side, self.kernel[side], self.stride[side])
        return h.flatten(4).flatten(2, 3).transpose(2, 3)


Line = tuple[Tensor, Tensor]  # slope and value at 0, each (b, *s)


def _two_sided(a: Tensor, below: Line, above: Line) -> tuple[list[Tensor], Tensor]:
    """Return a lower bound of Σ a·f(h): by the line `below` f where a ≥ 0, `above` f elsewhere."""
    plus, minus = a.clamp_min(0), a.clamp_max(0)
    lines = zip(below, above, strict=True)
    slope, height = (plus * under[:, None] + minus * over[:, None] for under, over in lines)
    return [slope], sum_units(height)
