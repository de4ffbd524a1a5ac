"""A metric is a function of model, inputs and labels: one number per sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..batch import Model
from ..component import Component, require
from ..functional.geometry import box_slack
from ..introspect import freeze
from ..runtime.allocator import retry_smaller_batch

ROWS = 4096  # rows per pass, for metrics that need many points per sample
_rows_that_fit: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # by model, after memory ran out


class Metric(Component):
    """Number `(b,)` per sample: `values = metric(model, x, y)`, a distance, a slope or a flatness.

    NaN marks a sample without a value, as where a search finds no boundary. The model and the
    global random state come back unchanged.

    Arguments:
        low, high, seed: the box of valid inputs, and of the draws.

    Attributes:
        unit: of the values, in words.
        better: `"higher"` or `"lower"`.
        off: whether it applies to other data too, off the support; it needs no labels then.
        labels: whether it reads y.
    """

    unit: ClassVar[str] = ""
    better: ClassVar[str] = "higher"
    off: ClassVar[bool] = False
    labels: ClassVar[bool] = True
    seed: int = 0

    def __init__(self, *, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        require(low < high, "low", low, f"below high = {high}")
        self.low, self.high = low, high

    def values(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        """Compute the numbers `(b,)`; the model comes frozen, in eval mode, in a view that leaves
        its input as it is."""
        raise NotImplementedError

    def __call__(self, model: Model, x: Tensor, y: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Compute the numbers `(b,)` of samples `x (b, *d)` in [low, high] with labels `y (b,)`.

        Raises:
            ValueError: for inputs or labels that can't be measured, or a model without gradients
                where the metric needs them.
        """
        name = type(self).__name__
        if not x.is_floating_point():
            raise ValueError(f"x has dtype {x.dtype}: {name} needs floats")
        slack = box_slack(self.low, self.high)
        least, most = self.low - slack, self.high + slack
        if x.numel() and not ((x >= least) & (x <= most)).all():
            raise ValueError(
                f"x reaches from {x.min().item():.4g} to {x.max().item():.4g}, the box of {name} "
                f"is [{self.low}, {self.high}]: put normalisation into the model"
            )
        if y is None:
            if self.labels:
                raise ValueError(f"y is missing: {name} needs labels")
            y = torch.full((len(x),), -1, device=x.device)
        if len(x) != len(y):
            raise ValueError(f"x has {len(x)} rows and y has {len(y)}: they must be equal")
        if self.labels and len(y) and int(y.min()) < 0:
            raise ValueError(f"y holds -1, an unlabelled sample: {name} needs labels")
        if len(x) == 0:
            return x.new_zeros(0)
        with freeze.frozen(model, "eval"), torch.no_grad():
            # a view: the model may write to its input, and its stages can be looked at
            return self.values(freeze.ModelView(model), x.detach(), y).detach()

    def reseed(self, seed: int) -> None:
        """Let every later call draw from `seed`."""
        self._seed_in_force = seed

    def generator(self) -> torch.Generator:
        """Return a fresh generator on the CPU: a repeated call gives the same numbers."""
        return torch.Generator().manual_seed(getattr(self, "_seed_in_force", self.seed))


def gradient(metric: Metric, f: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `f(x) (b,)` and its gradient with respect to `x (b, *d)`.

    Raises:
        ValueError: if there is no gradient: the model detaches, rounds or leaves torch.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        value = f(x)
        total = value.sum()
    grad = None
    if value.requires_grad:  # also where only the weights have a gradient
        (grad,) = torch.autograd.grad(total, x, allow_unused=True)
    if grad is None:
        raise ValueError(
            f"{type(metric).__name__} needs gradients, and the model's output has none with "
            "respect to its input: it detaches or leaves torch; metrics that need none are "
            "EBD, ENI, Entropy and MaxSoftmax"
        )
    return value.detach(), grad


def chunked_logits(model: Model, z: Tensor) -> Tensor:
    """Compute the logits of many samples, `ROWS` per pass, or fewer where memory runs out."""

    most = min(_rows_that_fit.get(model, ROWS), max(1, len(z)))

    def run(rows: int) -> Tensor:
        logits = torch.cat([model(chunk) for chunk in z.split(rows)])
        if rows < most:  # a metric calls this many times: it must not run out of memory each time
            _rows_that_fit[model] = rows
        return logits

    return retry_smaller_batch(run, most)
