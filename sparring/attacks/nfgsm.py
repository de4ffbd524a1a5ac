"""Train on one gradient step from noise that is larger than the ball (N-FGSM)."""

from __future__ import annotations

import math
from typing import Unpack

from torch import Tensor

from ..batch import Batch
from ..component import require
from ..functional.geometry import sample_linf
from ..threats.base import Threat
from . import base
from .base import Float32Execution, Gain, Maximizer


class NFGSM(Maximizer):
    """Step once along the sign of the gradient, from uniform noise of k radii; for training alone.
    x' = clip(x + η + ratio·eps·sign ∇f(x + η)), η uniform in [−k·eps, k·eps].

    Nothing projects x' to the ball: it lies within (k + ratio)·eps of x, and in the box. That is
    why one step suffices without catastrophic overfitting, and why there is no call: evaluate by
    another attack.

    Arguments:
        threat: an Linf ball.
        noise: k, the largest noise, in radii.
        ratio: length of the step, in radii.
        mode, seed: as in `Execution`.

    Source: de Jorge et al. 2022, alg. 1 (k = 2, ratio = 1).

    >>> import torch
    >>> from sparring.threats import Linf
    >>> batch = Batch(torch.full((1, 2), 0.5), torch.tensor([0]))
    >>> NFGSM(Linf(0.1), noise=0.0).maximize(lambda z: z.sum(1), batch)
    tensor([[0.6000, 0.6000]])
    """

    paper = "dejorge2022nfgsm"
    norms = (math.inf,)

    def __init__(
        self,
        threat: Threat,
        *,
        noise: float = 2.0,
        ratio: float = 1.0,
        **execution: Unpack[Float32Execution],
    ) -> None:
        super().__init__(**execution)
        ok = getattr(threat, "p", None) == math.inf
        require(ok, "threat", threat, f"a ball of Linf for {type(self).__name__}")
        require(noise >= 0, "noise", noise, "a noise ≥ 0 as a multiple of eps")
        require(ratio > 0, "ratio", ratio, "a step > 0 as a multiple of eps")
        self.threat, self.noise, self.ratio = threat, noise, ratio

    @property
    def num_radii(self) -> float:
        """How many radii from x a training point lies at most; 1 for every other attack."""
        return self.noise + self.ratio

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        """Return x', detached; it may lie outside of the ball."""
        eps, generator = self.threat.reach, self.generator(batch.x.device)
        z = batch.x + sample_linf(batch.x, self.noise * eps, generator)
        _, grad = base.value_and_grad(f, z)
        z = self.threat.step(z, grad, self.ratio * eps, batch)
        return z.clamp(self.threat.low, self.threat.high).detach()
