"""SPSA and NES: attacks that estimate gradients from outputs; the model needs none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import torch
from torch import Tensor

from ..component import checked, did_you_mean, require, require_at_least
from ..functional import losses
from ..threats.base import Threat
from .base import ActiveSet, Execution, Search

ESTIMATORS = ("spsa", "nes")
DrawDirections = Callable[[tuple[int, ...]], Tensor]


def estimate(
    f: Callable[[Tensor, Tensor], Tensor],
    z: Tensor,
    draw: DrawDirections,
    *,
    samples: int,
    delta: float,
    low: float,
    high: float,
    chunk: int,
) -> Tensor:
    """Estimate ∇f at z by (1/n) Σ_i (f(z + δu_i) − f(z − δu_i)) / 2δ · u_i over n directions u_i.

    A difference that is not finite counts 0.

    Arguments:
        f: maps points `(m, *d)` and their rows of z `(m,)` to values `(m,)`.
        draw: returns directions of a shape `(n, b, *d)`.
        samples, delta: n, and δ in input units; each row costs 2n points.
        low, high: the box that points are clipped to before f.
        chunk: points per call of f, rounded up to two per row.
    """
    b, left, total = len(z), samples, torch.zeros_like(z)
    while left:
        n = min(left, max(chunk // (2 * b), 1))
        u = draw((n, *z.shape))
        points = torch.stack([z + delta * u, z - delta * u]).clamp(low, high)
        rows = torch.arange(b, device=z.device).repeat(2 * n)
        value = f(points.flatten(0, 2), rows).reshape(2, n, b)
        slope = ((value[0] - value[1]) / (2 * delta)).nan_to_num(0.0, 0.0, 0.0)
        total = total + (slope.reshape(n, b, *[1] * (z.ndim - 1)) * u).sum(0)
        left -= n
    return total / samples


class SPSA(Search):
    """Climb a two-sided estimate g of the gradient, the mean of (f(z + δu) − f(z − δu)) / 2δ · u.

    `"spsa"`: u in {−1, 1}^d, then Adam's step on g. `"nes"`: u ~ N(0, I), then the threat's
    steepest step along g, a signed one in an Linf ball. The threat projects after each step.

    Arguments:
        steps: of each restart, ≥ 1. Published: 100.
        samples: directions per step, ≥ 1; a step costs 2·samples + 1 points. Published: 128 to
            8192.
        size: length of a step in input units; for `"spsa"` Adam's rate.
        delta: δ in input units; larger than the rounding of inputs inside the model.
        estimator: `"spsa"` or `"nes"`.
        loss: climbed: `"margin"`, `"ce"` or `"dlr"`.
        restarts: the first from x, the others from `threat.random_start`.
        chunk: points per call of the model, at least two per sample.

    Source: Uesato et al. 2018, alg. 1; Spall 1992. Differs: points are clipped to the box; a broken
    sample leaves at once.

    >>> from sparring.threats import Linf
    >>> model = lambda x: torch.stack([x.sum(1), 0.9 - x.sum(1)], 1).round(decimals=2)
    >>> x_adv = SPSA(Linf(0.1), samples=16)(model, torch.full((1, 2), 0.3), torch.tensor([0]))
    >>> model(x_adv).argmax(1)
    tensor([1])
    """

    paper = "uesato2018spsa"

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 40,
        samples: int = 64,
        size: float = 0.01,
        delta: float = 0.01,
        estimator: str = "spsa",
        loss: str = "margin",
        restarts: int = 1,
        chunk: int = 4096,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        require_at_least(1, steps=steps, samples=samples, restarts=restarts, chunk=chunk)
        require(size > 0, "size", size, "a length > 0 in input units")
        require(delta > 0, "delta", delta, "a length > 0 in input units")
        require(estimator in ESTIMATORS, "estimator", estimator, "one of " + ", ".join(ESTIMATORS))
        if loss not in losses.BY_NAME:
            raise ValueError(did_you_mean("loss", loss, losses.BY_NAME))
        self.threat, self.steps, self.samples, self.size = threat, steps, samples, size
        self.delta, self.estimator, self.loss = delta, estimator, loss
        self.restarts, self.chunk = restarts, chunk

    def search(self, active: ActiveSet, round_index: int) -> None:
        if self.threat.eps == 0:
            return
        batch, generator = active.batch, self.generator(active.x.device)
        z = self.threat.random_start(batch, generator) if round_index else self.threat.pack(batch)
        mean, square = torch.zeros_like(z), torch.zeros_like(z)
        for step in range(1, self.steps + 1):
            grad = self._estimate_grad(active, z)
            if self.estimator == "nes":
                z = self.threat.step(z, grad, self.size, active.batch)
            else:
                mean, square = 0.9 * mean + 0.1 * grad, 0.999 * square + 0.001 * grad.square()
                scale = (square / (1 - 0.999**step)).sqrt() + 1e-8
                z = z + self.size * mean / (1 - 0.9**step) / scale
            z = self.threat.project(z, active.batch)
            logits = active.logits_no_grad(z)
            keep = active.record(z, logits, losses.BY_NAME[self.loss](logits, active.y))
            if len(active) == 0:
                return
            if keep is not None:
                z, mean, square = z[keep], mean[keep], square[keep]

    def _estimate_grad(self, active: ActiveSet, z: Tensor) -> Tensor:
        """Return the estimated gradient of the loss at z `(a, *d)`."""
        loss = losses.BY_NAME[self.loss]
        draw = rademacher if self.estimator == "spsa" else gaussian
        generator = self.generator(z.device)
        return estimate(
            lambda points, rows: loss(active.logits_no_grad(points), active.y[rows]),
            z,
            lambda shape: draw(shape, z, generator),
            samples=self.samples,
            delta=self.delta,
            low=self.threat.low,
            high=self.threat.high,
            chunk=self.chunk,
        )


def rademacher(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw signs, −1 or 1 with equal chances, in the dtype of `like`."""
    bits = torch.empty(shape, dtype=like.dtype, device=like.device).uniform_(generator=generator)
    return (bits < 0.5).to(like.dtype) * 2 - 1


def gaussian(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers in the dtype of `like`."""
    return torch.empty(shape, dtype=like.dtype, device=like.device).normal_(generator=generator)


@checked
def NES(
    threat: Threat,
    *,
    steps: int = 40,
    samples: int = 64,
    size: float = 0.01,
    delta: float = 0.01,
    loss: str = "margin",
    restarts: int = 1,
    seed: int = 0,
) -> SPSA:
    """Return `SPSA` with Gaussian directions in ± pairs, and signed steps.

    Published: delta 0.001, samples 25, the cross-entropy.

    Source: Ilyas et al. 2018. Differs: no momentum, no decaying size.

    >>> from sparring.threats import Linf
    >>> NES(Linf(0.1)).estimator
    'nes'
    """
    return SPSA(
        threat,
        steps=steps,
        samples=samples,
        size=size,
        delta=delta,
        estimator="nes",
        loss=loss,
        restarts=restarts,
        seed=seed,
    )
