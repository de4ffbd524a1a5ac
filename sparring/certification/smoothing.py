"""Randomized smoothing: certify L2 radii with high probability, for any model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ..batch import Model
from ..component import require, require_at_least
from ..introspect import predict


class Smoothed(NamedTuple):
    """Hold the vote's `prediction (b,)` and proven L2 `radius (b,)`; −1 and 0 if it abstains."""

    radius: Tensor
    prediction: Tensor


def certify(
    model: Model,
    x: Tensor,
    *,
    sigma: float,
    select: int = 100,
    draws: int = 100_000,
    alpha: float = 0.001,
    batch_size: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Smoothed:
    """Return L2 radii in which the vote g(x) = arg max_c P(model(x + σ·N(0, I)) = c) is constant.

    R = σ·Φ⁻¹(p), with p the one-sided lower bound of the winner's probability at level 1 − alpha.
    Each sample's claim holds with that probability over the draws. It concerns the vote and not the
    bare model, and a ball that the box does not cut.

    Arguments:
        sigma: σ in input units; train the model with this noise.
        select, draws: noisy copies of a sample that choose its class, and that bound the class's
            probability; `batch_size` of them run in one pass.
        alpha: probability that a sample's claim is wrong.
        progress: is called with the numbers of samples finished, and of those with a vote.

    Source: Cohen et al. 2019, "Certify" (section 3.2.2) with n0 = select, n = draws.

    >>> x = torch.tensor([[0.9], [0.5]])
    >>> side = lambda x: torch.cat([x - 0.5, 0.5 - x], 1)
    >>> certify(side, x, sigma=0.25, draws=1000).prediction.tolist()
    [0, -1]
    """
    require(sigma > 0, "sigma", sigma, "a standard deviation > 0 in input units")
    require_at_least(1, select=select, draws=draws, batch_size=batch_size)
    require(0 < alpha < 1, "alpha", alpha, "between 0 and 1")
    generator = Generator(x.device).manual_seed(seed)
    radius, pred = torch.zeros(len(x), dtype=torch.float64), torch.full((len(x),), -1)
    options = {"sigma": sigma, "batch_size": batch_size, "generator": generator}
    for i, sample in enumerate(x):
        votes = class_counts(model, sample, select, **options)
        if int(votes.sum()):  # else no logits were finite
            winner = int(votes.argmax())
            # Other draws than those that chose the class: on the same ones, p would be too high.
            count = int(class_counts(model, sample, draws, **options)[winner])
            p = clopper_pearson_lower(count, draws, alpha)
            if p > 0.5:
                radius[i], pred[i] = sigma * NormalDist().inv_cdf(p), winner
        if progress is not None:
            progress(1, int(pred[i] >= 0))
    return Smoothed(radius.to(x.device), pred.to(x.device))


def class_counts(
    model: Model, x: Tensor, draws: int, *, sigma: float, batch_size: int, generator: Generator
) -> Tensor:
    """Count how often each class wins under noise around one sample `x (*d)`: `(k,)`."""
    total, left = torch.zeros(0, dtype=torch.long, device=x.device), draws
    while left:
        b = min(batch_size, left)
        noise = torch.randn(b, *x.shape, generator=generator, device=x.device, dtype=torch.float32)
        z = predict.logits(model, x + sigma * noise)
        counts = z.argmax(1)[torch.isfinite(z).all(1)].bincount(minlength=z.shape[1])
        total, left = (counts if len(total) == 0 else total + counts), left - b
    return total


@functools.lru_cache(4096)
def clopper_pearson_lower(successes: int, n: int, alpha: float) -> float:
    """Return the Clopper–Pearson lower bound of a probability from n trials.

    It is the p at which n trials have at least `successes` with probability alpha: a quantile of
    Beta(successes, n − successes + 1).

    Source: Clopper and Pearson 1934.

    >>> round(clopper_pearson_lower(100, 100, 0.001), 6)  # 0.001 ** (1 / 100)
    0.933254
    """
    from scipy.special import betaincinv  # the quantile behind scipy.stats, quick to import

    require(0 <= successes <= n and n >= 1, "successes", successes, f"between 0 and n = {n}")
    require(0 < alpha < 1, "alpha", alpha, "between 0 and 1")
    return float(betaincinv(successes, n - successes + 1, alpha)) if successes else 0.0
