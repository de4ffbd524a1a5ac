"""The box alone: every valid input, or those between bounds of each coordinate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..batch import Batch
from ..component import arguments_text, require
from ..functional.geometry import RELATIVE_SLACK
from ..runtime import distributed
from .base import Threat, check_bounds

MAX_LISTED = 1000  # numbers of a bound that a result lists; of more it has a hash


def numbers(key: str, bound: Any) -> Tensor:
    """Return the bound called `key` as a tensor of float64.

    Raises:
        ValueError: if it is not made of numbers.
    """
    try:
        values = torch.as_tensor(bound, dtype=torch.float64).detach().clone()
    except (TypeError, ValueError, RuntimeError):
        values = torch.tensor([torch.nan])
    good = values.numel() > 0 and not values.isnan().any()
    allowed = "a number, or an array of numbers of the shape of a sample, or of all samples"
    require(good, key, type(bound).__name__, allowed)
    return values


def require_broadcast(key: str, end: Tensor, shape: Sequence[int], whose: str) -> None:
    """Raise `ValueError` unless a bound broadcasts to a shape."""
    tail = tuple(shape)[::-1]
    fits = end.ndim <= len(tail) and all(
        n in (1, m) for n, m in zip(tuple(end.shape)[::-1], tail, strict=False)
    )
    if not fits:
        raise ValueError(f"{key} has shape {tuple(end.shape)}, and {whose} shape {tuple(shape)}")


def _is_by_row(bound: Tensor, x: Tensor) -> bool:
    """Return whether a bound has a row for each sample of `x (b, *d)`."""
    return bound.ndim == x.ndim and len(bound) > 1


def _require_rows(bound: Tensor, index: Tensor) -> None:
    known = not len(index) or int(index.max()) < len(bound)
    require(known, "lower, upper", f"{len(bound)} rows", "bounds of every sample")


def listed(bound: Tensor) -> Any:
    """Return a bound for a result: its numbers, or, of many, their shape and a hash."""
    if bound.numel() <= MAX_LISTED:
        return bound.tolist()
    digest = hashlib.sha256(bound.cpu().numpy().tobytes()).hexdigest()[:16]
    return f"{tuple(bound.shape)} numbers, sha256 {digest}"


class Box(Threat):
    """Allow every valid input, without a radius: S = [low, high]^d; or, of it, only the inputs
    between `lower` and `upper`, as in an instance of a verification benchmark (VNN-LIB).

    A step of length `size` moves a coordinate by size·(upper − lower)/(high − low): that share of
    its own side.

    Arguments:
        low, high: bounds of valid inputs, one number each.
        lower, upper: bounds of each coordinate, as an array, tensor or nested list: of the shape
            `(*d)` of a sample, or one that broadcasts to it; or `(n, *d)`, row by row: for the
            samples of a call, for those of an evaluation's data, or by `batch.index`. x lies
            between them. Default: low and high.

    Raises:
        ValueError: for bounds that are not numbers, that cross, or leave no valid input.

    >>> Box().project(torch.tensor([[1.5]]), Batch(torch.tensor([[0.5]]), torch.tensor([0])))
    tensor([[1.]])
    >>> batch = Batch(torch.tensor([[0.5, 0.5]]), torch.tensor([0]))
    >>> Box(lower=[0.4, 0.0], upper=[0.6, 0.5]).project(torch.tensor([[1.5, 1.5]]), batch)
    tensor([[0.6000, 0.5000]])
    """

    _lower: Tensor | None
    _upper: Tensor | None

    def __init__(
        self, *, low: float = 0.0, high: float = 1.0, lower: Any = None, upper: Any = None
    ) -> None:
        super().__init__()
        check_bounds(low, high)
        self.low, self.high, self.lower, self.upper = low, high, lower, upper
        # buffers, to follow `.to(device)`; not saved, since the configuration has them
        for key, bound in (("lower", lower), ("upper", upper)):
            values = None if bound is None else numbers(key, bound)
            self.register_buffer(f"_{key}", values, persistent=False)
        if not self._is_plain:
            self._check()

    @property
    def _is_plain(self) -> bool:
        return self._lower is None and self._upper is None

    def _check(self) -> None:
        """Raise `ValueError` for bounds that cross, or leave no valid input."""
        least, most = self._ends(torch.zeros((), dtype=torch.float64))
        sizes = zip(tuple(least.shape)[::-1], tuple(most.shape)[::-1], strict=False)
        shapes = f"{tuple(least.shape)}, and upper {tuple(most.shape)}"
        if not all(n == m or 1 in (n, m) for n, m in sizes):
            raise ValueError(f"lower has shape {shapes}: they must broadcast to one shape")
        if least.max() > self.high or most.min() < self.low:
            raise ValueError(
                f"lower reaches to {least.max():.4g} and upper from {most.min():.4g}: "
                f"they leave no input within low = {self.low} and high = {self.high}"
            )
        over = (least - most).max().item()
        require(over <= 0, "lower", f"upper + {over:.4g}", "at most upper, everywhere")

    def _ends(self, like: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return both bounds within [low, high], in the dtype of `like`, of the rows `index`."""
        ends = []
        for bound, edge in ((self._lower, self.low), (self._upper, self.high)):
            values = like.new_full((), edge) if bound is None else bound.to(like)
            if index is not None and _is_by_row(values, like):
                if not index.is_cuda:  # there it would wait for the device
                    _require_rows(values, index)
                values = values[index]
            ends.append(values)
        # a bound outside of the valid inputs does not widen them
        return torch.clamp_min(ends[0], self.low), torch.clamp_max(ends[1], self.high)

    def ends(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds that broadcast to the batch.

        Raises:
            ValueError: for bounds that do not fit its samples.
        """
        low, high = self._ends(batch.x, batch.index)
        for key, end in (("lower", low), ("upper", high)):
            require_broadcast(key, end, batch.x.shape, "the batch has")
        return low, high

    def check_reachable(self, shape: Sequence[int], *, by_row: bool = False) -> None:
        """Raise `ValueError` for bounds that do not fit samples of this shape, or, unless `by_row`,
        differ between them."""
        x = torch.zeros(1, *shape)
        for key, end in zip(("lower", "upper"), self._ends(x), strict=True):
            end = end[:1] if by_row and _is_by_row(end, x) else end
            require_broadcast(key, end, x.shape, "one box is for samples of")

    def check_samples(self, batch: Batch) -> None:
        """Raise `ValueError` for samples without bounds, or outside their own."""
        if self._is_plain:
            return
        for bound in (self._lower, self._upper):
            if bound is not None and _is_by_row(bound, batch.x):
                _require_rows(bound, batch.index)
        low, high = self.ends(batch)
        slack = RELATIVE_SLACK * (self.high - self.low)  # as in judging
        over = torch.maximum(low - batch.x, batch.x - high).flatten(1)
        outside = (over > slack).any(1).nonzero()[:, 0]
        if len(outside):
            i = int(outside[0])
            k = int(over[i].argmax())
            least, most = (end.expand_as(batch.x)[i].flatten()[k] for end in (low, high))
            raise ValueError(
                f"x lies outside its box in row {int(batch.index[i])}: coordinate {k} is "
                f"{batch.x[i].flatten()[k]:.4g}, its lower is {least:.4g} and upper {most:.4g}"
            )

    @contextmanager
    def on_rows(self, rows: Tensor, x: Tensor) -> Iterator[None]:
        bounds = self._lower, self._upper
        # moved once here, not at every step: these are the bounds of a few rows
        self._lower, self._upper = (
            b if b is None or not _is_by_row(b, x) else b[rows.to(b.device)].to(x) for b in bounds
        )
        try:
            yield
        finally:
            self._lower, self._upper = bounds

    def table(self) -> dict[str, Any]:
        bounds = {"lower": self._lower, "upper": self._upper}
        return super().table() | {k: None if b is None else listed(b) for k, b in bounds.items()}

    def extra_repr(self) -> str:
        table = self.table()
        return arguments_text(type(self), {k: table[k] for k in self.config()})

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Draw a point uniformly from the box, wherever x is."""
        noise = distributed.draw("uniform", batch.x, generator)
        if self._is_plain:
            return self.low + (self.high - self.low) * noise
        low, high = self.ends(batch)
        return low + (high - low) * noise

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        if self._is_plain:
            return z + size * grad.sign()
        low, high = self.ends(batch)
        return z + size * (high - low) / (self.high - self.low) * grad.sign()

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        if self._is_plain:
            return z.clamp(self.low, self.high)
        return z.clamp(*self.ends(batch))
