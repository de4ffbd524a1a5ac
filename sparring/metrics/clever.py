"""CLEVER: estimate a lower bound of the distance to the boundary."""

from __future__ import annotations

import contextlib
import warnings

import torch
from torch import Tensor

from ..batch import Model
from ..component import require, require_at_least
from ..functional.geometry import norm, sample_l1, sample_l2, sample_linf
from ..runtime.allocator import retry_smaller_batch
from .base import Metric, gradient

BALLS = {"Linf": (sample_linf, 1), "L2": (sample_l2, 2), "L1": (sample_l1, torch.inf)}


class CLEVER(Metric):
    """Estimate a lower bound of the distance to the boundary.
    min_j min(g_j(x) / L_j, radius) with g_j = f_c − f_j, c the class predicted at x, and L_j the
    greatest ‖∇g_j‖_q in the ball of that radius: the location of a reverse Weibull law fitted to
    the maxima of batches of samples.

    It is an estimate and no bound: where gradients are masked it is far too high.

    Arguments:
        norm: `"L2"`, `"Linf"` or `"L1"`, p of the ball; 1/p + 1/q = 1.
        radius: of the ball, in input units; the score is at most that.
        batches, samples: number of maxima, and of samples per maximum, drawn from
            `pool · samples` points.
        rivals: number of classes beside c, by highest logit; default: all.

    Source: Weng et al. 2018, alg. 1, sampled as in the Adversarial Robustness Toolbox. Differs:
    samples are clipped to the box; the greatest maximum is taken where all maxima agree, the fit
    fails, or its location falls below it.

    >>> model = lambda x: torch.stack([x.sum(1), 1.8 - x.sum(1)], 1)
    >>> CLEVER(norm="Linf", radius=0.5)(model, torch.full((1, 2), 0.5))
    tensor([0.0500])
    """

    paper = "weng2018clever"
    unit = "input units"
    labels = False

    def __init__(
        self,
        *,
        norm: str = "L2",
        radius: float = 2.0,
        batches: int = 50,
        samples: int = 50,
        pool: int = 10,
        rivals: int | None = None,
        low: float = 0.0,
        high: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(low=low, high=high)
        require(norm in BALLS, "norm", norm, "one of " + ", ".join(BALLS))
        require(radius > 0, "radius", radius, "a radius > 0 in input units")
        require_at_least(1, batches=batches, samples=samples, pool=pool)
        require(batches >= 3, "batches", batches, "an integer ≥ 3: the law has three parameters")
        require(rivals is None or rivals >= 1, "rivals", rivals, "an integer ≥ 1, or None")
        self.norm, self.radius, self.batches, self.samples = norm, radius, batches, samples
        self.pool, self.rivals, self.seed = pool, rivals, seed

    def values(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        generator = self.generator()
        return torch.stack([self._score(model, row[None], generator) for row in x])

    def _score(self, model: Model, x: Tensor, generator: torch.Generator) -> Tensor:
        logits = model(x)[0]
        order = logits.argsort(descending=True)
        c, others = order[0], order[1:][: self.rivals]
        sample, q = BALLS[self.norm]
        many = torch.zeros(self.pool * self.samples, *x.shape[1:])
        points = (x + sample(many, self.radius, generator).to(x)).clamp(self.low, self.high)
        chosen = torch.rand(self.batches, len(many), generator=generator).topk(self.samples).indices
        score = x.new_full((), self.radius)
        for j in others:
            most = location(self._slopes(model, points, int(c), int(j), q).cpu()[chosen].amax(1))
            reach = (logits[c] - logits[j]) / max(most, torch.finfo(x.dtype).tiny)
            score = torch.minimum(score, reach)
        return score

    def _slopes(self, model: Model, points: Tensor, c: int, j: int, q: float) -> Tensor:
        """Compute ‖∇(f_c − f_j)‖_q at each point."""

        def difference(z: Tensor) -> Tensor:
            logits = model(z)
            return logits[:, c] - logits[:, j]

        def run(rows: int) -> Tensor:
            return torch.cat([gradient(self, difference, z)[1] for z in points.split(rows)])

        return norm(retry_smaller_batch(run, min(1024, len(points))), q)


def location(maxima: Tensor) -> float:
    """Estimate the largest value that could occur from `maxima (m,)` of m batches: the location of
    a fitted reverse Weibull law, but never below the greatest of them.

    >>> location(torch.tensor([2.0, 2.0, 2.0]))
    2.0
    """
    from scipy.stats import weibull_max

    most = maxima.max().item()
    spread = most - maxima.min().item()
    if spread <= 1e-6 * abs(most):
        return most
    scaled = ((maxima.double() - most) / spread).numpy()  # in [-1, 0]
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError, ValueError):
        warnings.simplefilter("ignore")
        _, fitted, _ = weibull_max.fit(scaled, 1.0, loc=0.1, scale=0.5)
        if 0 <= fitted < 10:  # beyond it the fit has diverged
            return most + fitted * spread
    return most
