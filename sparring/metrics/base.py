"""A metric is a function of model, inputs and labels that gives a number a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Tensor

from ..batch import Model
from ..component import Component, require
from ..functional.geometry import SLACK
from ..introspect import freeze

ROWS = 4096  # samples that pass the model at once, where a metric asks about many a sample


class Metric(Component):
    """How far, how steep, how flat: `values = metric(model, x, y)`, one `(b,)` a sample.

    NaN says that a sample has no value: what was looked for is not there. The model comes back as
    it was, and the global random state is not touched.

    Attributes:
        unit: of the values, in words.
        better: `"higher"` or `"lower"`.
        off: it needs no labels, and says something of samples of other data too.
        labels: it looks at y.
    """

    unit: ClassVar[str] = ""
    better: ClassVar[str] = "higher"
    off: ClassVar[bool] = False
    labels: ClassVar[bool] = True
    low: float = 0.0
    high: float = 1.0
    seed: int = 0

    def values(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        """The numbers `(b,)`; the model is held in eval mode with its weights frozen."""
        raise NotImplementedError

    def __call__(self, model: Model, x: Tensor, y: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """The numbers `(b,)` of samples `x (b, *d)` in [low, high], with labels `y (b,)`.

        Raises:
            ValueError: for inputs or labels that can't be measured, or a model without gradients
                where the metric needs them.
        """
        y = self._checked(x, y)
        if len(x) == 0:
            return x.new_zeros(0)
        with freeze.frozen(model, "eval"), torch.no_grad():
            return self.values(model, x.detach(), y).detach()

    def _checked(self, x: Tensor, y: Tensor | None) -> Tensor:
        name = type(self).__name__
        if not x.is_floating_point():
            raise ValueError(f"x has dtype {x.dtype}: {name} needs floats")
        least, most = self.low - SLACK, self.high + SLACK
        if x.numel() and not ((x >= least) & (x <= most)).all():
            raise ValueError(
                f"x reaches from {x.min().item():.4g} to {x.max().item():.4g}, the box of {name} "
                f"is [{self.low}, {self.high}]: put normalisation into the model"
            )
        if y is None:
            if self.labels:
                raise ValueError(f"y is missing: {name} looks at the labels")
            return torch.full((len(x),), -1, device=x.device)
        if len(x) != len(y):
            raise ValueError(f"x has {len(x)} rows and y has {len(y)}: they must be as many")
        if self.labels and len(y) and int(y.min()) < 0:
            raise ValueError(f"y holds -1, an unlabelled sample: {name} looks at the labels")
        return y

    def reseed(self, seed: int) -> None:
        """Every later call draws from `seed`."""
        self._now = seed

    def generator(self) -> torch.Generator:
        """A generator on the CPU, anew at its seed: a call repeated gives the same numbers."""
        return torch.Generator().manual_seed(getattr(self, "_now", self.seed))

    def box(self, low: float, high: float) -> None:
        """Check and store the valid inputs."""
        require(low < high, "low", low, f"below high = {high}")
        self.low, self.high = low, high


def gradient(metric: Metric, f: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """`f(x) (b,)`, and its gradient with respect to `x (b, *d)`.

    Raises:
        ValueError: if it has none: the model detaches, rounds or leaves torch.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        value = f(x)
        total = value.sum()
    if not value.requires_grad:
        raise ValueError(
            f"{type(metric).__name__} needs gradients, and the model's output has none with "
            "respect to its input: it detaches or leaves torch; metrics that need none are "
            "EBD, ENI, Entropy and MaxSoftmax"
        )
    (grad,) = torch.autograd.grad(total, x)
    return value.detach(), grad


def passed(model: Model, z: Tensor, rows: int = ROWS) -> Tensor:
    """Logits of many samples, `rows` at once."""
    return torch.cat([model(part) for part in z.split(rows)])


def pieces(n: int, size: int) -> Iterator[slice]:
    """0..n−1 in slices of so many.

    >>> list(pieces(5, 3))
    [slice(0, 3, None), slice(3, 5, None)]
    """
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
