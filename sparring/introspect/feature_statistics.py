"""Channel statistics of features: of each sample, their spread over a batch, and features moved to
others.

Features are `(b, c, ...)` with positions after the channels; statistics `(b, c)`, at least float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..component import require
from ..runtime import distributed
from . import hooks

Pair = tuple[Tensor, Tensor]  # of means and of deviations: (b, c) each, or (1, c)
FLOOR = 1e-6  # below every root: of a variance, in squared feature units
LEAST = 4  # samples of a class that tell its spread


def wide(t: Tensor) -> Tensor:
    """In float32, or float64 if it is."""
    return t if t.dtype == torch.float64 else t.float()


def channels(features: Tensor) -> Pair:
    """Mean and σ = √(var + 1e-6) over the positions of each channel of each sample, `(b, c)` each.

    The variance is the biased one, 0 for a single position.

    Raises:
        ValueError: for features `(b, c)` without positions, which have no such statistics.

    >>> mean, std = channels(torch.tensor([[[1.0, 3.0]]]))
    >>> mean.item(), round(std.item(), 4)
    (2.0, 1.0)
    """
    require(
        features.ndim >= 3,
        "features.shape",
        tuple(features.shape),
        "(b, c, positions ...): channel statistics are those over the positions",
    )
    flat = wide(features).flatten(2)
    return flat.mean(2), (flat.var(2, unbiased=False) + FLOOR).sqrt()


def spread(values: Tensor) -> Tensor:
    """√(var + 1e-6) over the (joint) batch of `values (b, c)`: `(1, c)`, how uncertain they are.

    Raises:
        ValueError: for fewer than two samples.

    >>> spread(torch.tensor([[1.0], [3.0]])).round(decimals=4)
    tensor([[1.]])
    """
    joint = distributed.gather(values)
    require(
        len(joint) >= 2,
        "batch",
        len(joint),
        "at least 2 samples: the uncertainty of a statistic is its spread over the batch, and one "
        "sample has none",
    )
    return (joint.var(0, unbiased=False, keepdim=True) + FLOOR).sqrt()


def moved(features: Tensor, mean: Tensor, std: Tensor, by_mean: Tensor, by_std: Tensor) -> Tensor:
    """(F − μ)/σ·(σ + by_std) + μ + by_mean, in the precision of `features`; a move of 0 is none.

    Arguments:
        mean, std: `(b, c)`, of `channels(features)`, or the same detached.
        by_mean, by_std: `(b, c)`, how far the statistics go.
    """
    view = (*mean.shape, *[1] * (features.ndim - 2))
    mean, std, by_mean, by_std = (t.view(view) for t in (mean, std, by_mean, by_std))
    normal = (wide(features) - mean) / std
    return features + (normal * by_std + by_mean).to(features.dtype)


def apart(a: Pair, b: Pair) -> Tensor:
    """Squared 2-Wasserstein distance of the diagonal Gaussians of two batches' statistics, `()`,
    averaged over channels: Σ over means and deviations of (Δ batch mean)² + (Δ spread)².

    >>> a = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [1.0]])
    >>> apart(a, (a[0] + 3.0, a[1]))
    tensor(9.)
    """
    total = torch.zeros((), dtype=a[0].dtype, device=a[0].device)
    for here, there in zip(a, b, strict=True):
        gap = distributed.gather(here).mean(0) - distributed.gather(there).mean(0)
        total = total + (gap.square() + (spread(here) - spread(there)).square()[0]).mean()
    return total


def class_spreads(stats: Pair, y: Tensor) -> Tensor:
    """The spread of statistics within each class of the (joint) batch, `(2, k, c)`; NaN for fewer
    than 4 samples.

    >>> values = torch.tensor([[0.0], [0.0], [2.0], [2.0], [9.0]])
    >>> class_spreads((values, values), torch.tensor([0, 0, 0, 0, 1]))[0].round(decimals=3)
    tensor([[1.], [nan]])
    """
    labels, values = (
        distributed.gather(y),
        torch.stack([distributed.gather(s.detach()) for s in stats]),
    )
    member = (labels == torch.arange(max(int(labels.max()), 0) + 1, device=y.device)[:, None]).to(
        values.dtype
    )
    count = member.sum(1, keepdim=True)
    mean, square = (member @ v / count.clamp_min(1) for v in (values, values.square()))
    found = ((square - mean.square()).clamp_min(0) + FLOOR).sqrt()
    return torch.where(count >= LEAST, found, torch.nan)


def mixed(old: Tensor | None, new: Tensor, *, keep: float) -> Tensor:
    """keep·old + (1 − keep)·new where both are known, the known one elsewhere; for as many classes
    as either has."""
    if old is None:
        return new
    old = old.to(new)
    wanted = max(old.shape[1], new.shape[1])
    old, new = (
        nn.functional.pad(t, (0, 0, 0, wanted - t.shape[1]), value=torch.nan) for t in (old, new)
    )
    both = keep * old + (1 - keep) * new
    return torch.where(old.isnan(), new, torch.where(new.isnan(), old, both))


class Seen(NamedTuple):
    """Features at a site, their statistics, and zeros `(b, c)` by which these can be moved."""

    features: Tensor
    stats: Pair
    by: Pair

    def moved(self, by_mean: Tensor, by_std: Tensor) -> Tensor:
        """The features with statistics μ + by_mean and max(0, σ + by_std)."""
        _, std = self.stats
        return moved(self.features, *self.stats, by_mean, torch.maximum(by_std, -std))


def watched(model: nn.Module, x: Tensor, names: Iterable[str]) -> tuple[Tensor, dict[str, Seen]]:
    """The logits on `x`, and what stands at these submodules; the moves of 0 are on the path."""
    seen: dict[str, Seen] = {}

    def change(name: str) -> hooks.Change:
        def run(features: Tensor) -> Tensor:
            mean, std = channels(features)
            by = torch.zeros_like(mean), torch.zeros_like(std)
            seen[name] = Seen(features, (mean, std), by)
            for zeros in by:
                zeros.requires_grad_()
            return moved(features, mean, std, *by)

        return run

    return hooks.replace(model, x, {name: change(name) for name in names}), seen


def downhill(at: Seen, slopes: Sequence[Tensor], *, length: float = 1.0) -> Pair:
    """One step of the statistics down a loss, `length` spreads long, without a graph.

    Arguments:
        slopes: the gradients of the loss in `at.by`.
    """
    mean, std = (
        -length * spread(s.detach()) * g.sign() for s, g in zip(at.stats, slopes, strict=True)
    )
    return mean, std
