"""Randomized smoothing: L2 radii that hold with high probability, for any model."""

from __future__ import annotations

import functools
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from ..batch import Model
from ..component import require
from ..introspect import predict


class Smoothed(NamedTuple):
    """What was proven of the smoothed model: `radius (b,)` in L2, `prediction (b,)`.

    Where it abstains, the radius is 0 and the prediction −1.
    """

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
    batch: int = 1000,
    seed: int = 0,
) -> Smoothed:
    """L2 radii in which the vote g(x) = arg max_c P(model(x + σ·N(0, I)) = c) is constant.

    R = σ·Φ⁻¹(p), p the one-sided lower bound of the winner's probability at level 1 − alpha; each
    sample's claim holds with that probability over the draws. Says nothing of the bare model, and
    the ball is not cut by the box.

    Arguments:
        sigma: of the noise, in input units; the model should have been trained with it.
        select, draws: noisy copies of a sample to choose its class, and to bound its probability.
        batch: copies in one pass.

    Source: Cohen et al. 2019, "Certify" (section 3.2.2) with n0 = select, n = draws.

    >>> x = torch.tensor([[0.9], [0.5]])
    >>> side = lambda x: torch.cat([x - 0.5, 0.5 - x], 1)
    >>> certify(side, x, sigma=0.25, draws=1000).prediction.tolist()
    [0, -1]
    """
    require(sigma > 0, "sigma", sigma, "a standard deviation > 0 in input units")
    require(select >= 1, "select", select, "an integer ≥ 1")
    require(draws >= 1, "draws", draws, "an integer ≥ 1")
    require(0 < alpha < 1, "alpha", alpha, "between 0 and 1")
    require(batch >= 1, "batch", batch, "an integer ≥ 1")
    generator = torch.Generator(x.device).manual_seed(seed)
    radius, said = torch.zeros(len(x), dtype=torch.float64), torch.full((len(x),), -1)
    for i, one in enumerate(x):
        chosen = counts(model, one, select, sigma=sigma, batch=batch, generator=generator)
        if int(chosen.sum()) == 0:
            continue  # no logits were finite
        best = int(chosen.argmax())
        hits = int(counts(model, one, draws, sigma=sigma, batch=batch, generator=generator)[best])
        p = at_least(hits, draws, alpha)
        if p > 0.5:
            radius[i], said[i] = sigma * NormalDist().inv_cdf(p), best
    return Smoothed(radius.to(x.device), said.to(x.device))


def counts(
    model: Model,
    x: Tensor,
    draws: int,
    *,
    sigma: float,
    batch: int,
    generator: torch.Generator,
) -> Tensor:
    """How often each class wins under noise around one sample `x (*d)`: `(k,)`."""
    found, left = torch.zeros(0, dtype=torch.long, device=x.device), draws
    while left:
        many = min(batch, left)
        noise = torch.randn(
            many, *x.shape, generator=generator, device=x.device, dtype=torch.float32
        )
        z = predict.logits(model, x + sigma * noise)
        winners = z.argmax(1)[torch.isfinite(z).all(1)]
        new = winners.bincount(minlength=z.shape[1])
        found, left = (new if len(found) == 0 else found + new), left - many
    return found


@functools.lru_cache(4096)
def at_least(hits: int, n: int, alpha: float) -> float:
    """Return the Clopper–Pearson lower bound of a probability, from hits in n trials.

    It is the p at which n trials give ≥ hits with probability alpha.

    Source: Clopper and Pearson 1934; the bound is a quantile of Beta(hits, n − hits + 1).

    >>> round(at_least(100, 100, 0.001), 6)  # 0.001 ** (1 / 100)
    0.933254
    """
    from scipy.special import betaincinv  # the quantile behind scipy.stats, quick to import

    require(0 <= hits <= n and n >= 1, "hits", hits, f"between 0 and n = {n}")
    require(0 < alpha < 1, "alpha", alpha, "between 0 and 1")
    return float(betaincinv(hits, n - hits + 1, alpha)) if hits else 0.0


def certified_accuracy(radius: Tensor, right: Tensor, eps: float) -> float:
    """The share of samples that are right, with a proven radius above eps; `(b,)` each.

    >>> certified_accuracy(torch.tensor([0.3, 0.1]), torch.tensor([True, True]), 0.2)
    0.5
    """
    return float((right & (radius > eps)).double().mean())
