"""Compute channel statistics of features, their spread over a batch, and shifted features.

Features are `(b, c, ...)` with positions after the channels; statistics are `(b, c)`, in float32 or
wider.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..component import require
from ..runtime import distributed
from . import hooks

MeanStd = tuple[Tensor, Tensor]  # means and deviations, (b, c) or (1, c) each
VARIANCE_FLOOR = 1e-6  # added below every root, in squared units: √ has no slope at 0


def channel_statistics(features: Tensor) -> MeanStd:
    """Return mean and σ = √(var + 1e-6) over each channel's positions per sample, `(b, c)` each.

    The variance is the biased one: 0 for a single position.

    Raises:
        ValueError: for features `(b, c)`, which have no positions.

    >>> mean, std = channel_statistics(torch.tensor([[[1.0, 3.0]]]))
    >>> mean.item(), round(std.item(), 4)
    (2.0, 1.0)
    """
    require(
        features.ndim >= 3,
        "features.shape",
        tuple(features.shape),
        "(b, c, positions ...): channel statistics are those over the positions",
    )
    # one pass over the features for both
    variance, mean = torch.var_mean(_at_least_float32(features).flatten(2), 2, correction=0)
    return mean, (variance + VARIANCE_FLOOR).sqrt()


def batch_spread(values: Tensor) -> Tensor:
    """Return √(var + 1e-6) `(1, c)` of `values (b, c)` over the (joint) batch: their uncertainty.

    Raises:
        ValueError: for fewer than two samples.

    >>> batch_spread(torch.tensor([[1.0], [3.0]])).round(decimals=4)
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
    return (joint.var(0, unbiased=False, keepdim=True) + VARIANCE_FLOOR).sqrt()


def shift_statistics(
    features: Tensor, mean: Tensor, std: Tensor, by_mean: Tensor, by_std: Tensor
) -> Tensor:
    """Return (F − μ)/σ·(σ + by_std) + μ + by_mean, in the precision of `features`.

    Arguments:
        mean, std: μ and σ `(b, c)`, from `channel_statistics(features)`.
        by_mean, by_std: the shifts `(b, c)`.
    """
    view = (*mean.shape, *[1] * (features.ndim - 2))
    # One affine map of the features, F·(1 + r) + (by_mean − μ·r): small tensors are made first, and
    # the large one is read once. A shift of 0 returns the features bit for bit.
    ratio = by_std / std
    offset = torch.addcmul(by_mean, mean, ratio, value=-1)
    wide = _at_least_float32(features)
    return torch.addcmul(offset.view(view), wide, (1 + ratio).view(view)).to(features.dtype)


class SiteFeatures(NamedTuple):
    """Features at a submodule, their statistics, and zeros `(b, c)` in the graph as shifts."""

    features: Tensor
    stats: MeanStd
    shift: MeanStd

    def shifted(self, by_mean: Tensor, by_std: Tensor) -> Tensor:
        """Return the features with statistics μ + by_mean and max(0, σ + by_std)."""
        _, std = self.stats
        by_std = torch.maximum(by_std, -std)
        return shift_statistics(self.features, *self.stats, by_mean, by_std)


def extract_statistics(
    model: nn.Module, x: Tensor, names: Iterable[str]
) -> tuple[Tensor, dict[str, SiteFeatures]]:
    """Return the logits on `x` and the features of these submodules, by name.

    The shifts of 0 lie on the path to the logits, whose gradients in them are those in μ and σ.
    """
    sites: dict[str, SiteFeatures] = {}

    def insert_shift(name: str) -> hooks.OutputTransform:
        def run(features: Tensor) -> Tensor:
            mean, std = channel_statistics(features)
            shift = torch.zeros_like(mean).requires_grad_(), torch.zeros_like(std).requires_grad_()
            sites[name] = SiteFeatures(features, (mean, std), shift)
            return shift_statistics(features, mean, std, *shift)

        return run

    return hooks.replace_outputs(model, x, {name: insert_shift(name) for name in names}), sites


def descent_step(
    site: SiteFeatures, gradients: Sequence[Tensor], *, length: float = 1.0
) -> MeanStd:
    """Return the signed step of the statistics down a loss, `length` spreads long, without a graph.

    Arguments:
        gradients: of the loss in `site.shift`.
    """
    by_mean, by_std = (
        -length * batch_spread(s.detach()) * g.sign()
        for s, g in zip(site.stats, gradients, strict=True)
    )
    return by_mean, by_std


def _at_least_float32(t: Tensor) -> Tensor:
    return t if t.dtype == torch.float64 else t.float()
