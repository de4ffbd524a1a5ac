"""Records that flow through the library: a batch, and the loss on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

Model = Callable[[Tensor], Tensor]  # inputs (b, *d) to logits (b, k)


@dataclass
class Batch:
    """One mini-batch; replace it with `dataclasses.replace`, never mutate it.

    Arguments:
        x: clean inputs `(b, *d)` in the source's bounds, float.
        y: labels `(b,)`, integers; -1 means unlabeled.
        weight: base measure `(b,)`; default: ones.
        index: row of each sample in its data set `(b,)`; default: 0..b-1.
        x_adv, y_adv, cost: filled by `Objective.maximize`: adversarial inputs `(b, *d)`, their
            labels `(b,)` or `(b, k)`, and the transport cost `(b,)` in the threat's units.
        price: `()` the multiplier λ of that cost, while a search runs; None elsewhere.
        extra: per-sample tensors that a method hands from `gain` to `loss`.

    >>> Batch(torch.rand(2, 3), torch.tensor([0, 1])).weight
    tensor([1., 1.])
    """

    x: Tensor
    y: Tensor
    weight: Tensor = None  # type: ignore[assignment]
    index: Tensor = None  # type: ignore[assignment]
    x_adv: Tensor | None = None
    y_adv: Tensor | None = None
    cost: Tensor | None = None
    price: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.weight is None:
            self.weight = torch.ones(len(self.x), device=self.x.device, dtype=self.x.dtype)
        if self.index is None:
            self.index = torch.arange(len(self.x), device=self.x.device)

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Tensor) -> Batch:
        """Return the batch with only these rows: a mask `(b,)` or row numbers `(m,)`."""
        names = ("x", "y", "weight", "index", "x_adv", "y_adv", "cost")
        taken = {n: value[rows] for n in names if (value := getattr(self, n)) is not None}
        return replace(self, **taken, extra={k: value[rows] for k, value in self.extra.items()})


@dataclass
class Loss:
    """Loss that the model minimizes: a per-sample vector for the risk, and a batch penalty.

    Arguments:
        per_sample: `(b,)` losses, not averaged, in nats.
        penalty: `()` the part that is not per sample, already multiplied by its factor.
        terms: named scalars for the log.
        total: `()` the aggregated objective, filled by `Objective.minimize`.
    """

    per_sample: Tensor
    penalty: Tensor | float = 0.0
    terms: dict[str, Tensor] = field(default_factory=dict)
    total: Tensor = None  # type: ignore[assignment]
