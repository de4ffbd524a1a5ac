"""Attacks on bits that climb between them, and round."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Generator, Tensor

from ..batch import Batch, Model
from ..component import require
from ..runtime import distributed
from ..threats.base import Threat
from .base import Float32Execution, Gain, Maximizer, run_restarts
from .bit_flips import Rank, Seen, check_bit_attack, flipped, gained, may_flip, settle


def rounding(
    seen: Seen,
    rank: Rank,
    threat: Threat,
    steps: int,
    draws: int = 1,
    by: Generator | None = None,
    start: Generator | None = None,
) -> None:
    """z ← clip(z + sign(g)/steps) from x, or, with `start`, from a random point of the threat; x is
    told, and z > u with what may not flip back at x: for every draw of u, or for u = ½."""
    if start is not None:
        seen.record(seen.x, seen.logits_no_grad(seen.x))
    if len(seen) == 0:
        return
    z, may, width = seen.x, may_flip(threat, seen.batch), threat.high - threat.low
    z = z if start is None else threat.random_start(seen.batch, start)
    grad = torch.zeros_like(z)
    for step in range(steps):
        _, grad, logits = seen.value_and_grad(lambda out, y=seen.y: rank(out, y), z)
        keep = seen.record(z, logits) if step == 0 and start is None else None
        if len(seen) == 0:
            return
        if keep is not None:
            z, grad, may = z[keep], grad[keep], may[keep]
        z = (z + width / steps * grad.sign()).clamp(threat.low, threat.high)
    for _ in range(draws):
        x, u = seen.x, 0.5 if by is None else distributed.draw("uniform", z, by)
        flips = may & ((z > threat.low + width * u) != (x == threat.high))
        point = settle(x, flips, (flipped(x, threat) - x) * grad, threat)
        keep = seen.record(point, seen.logits_no_grad(point))
        if len(seen) == 0:
            return
        if keep is not None:
            z, grad, may = z[keep], grad[keep], may[keep]


class DFGSM(Maximizer):
    """dFGSM^k: z ← clip(z + sign(∇ℓ)/k) k times from x, rounded at ½; x where that lost.

    Bits that may not flip move too while it climbs, and go back to x in the end; where more flip
    than the budget allows, those with the steepest last gradient do.

    Arguments:
        threat: Bits.
        steps: gradients k; published: 50.
        loss: what it climbs: `"ce"`, `"margin"` or `"dlr"`. A trainer brings its own gain instead.
        random_start: climb from a random point of the threat, for a gain whose gradient is 0 at x,
            as that of TRADES; published: from x.

    Source: Al-Dujaili et al. 2018, alg. 1.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([x[:, 0] - x[:, 1], 0 * x[:, 0]], 1)
    >>> DFGSM(Bits())(model, torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    tensor([[1., 1.]])
    """

    paper = "aldujaili2018adversarial"
    norms = ("bits",)
    refines = True  # more steps are shorter, and end elsewhere

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 50,
        loss: str = "ce",
        random_start: bool = False,
        **execution: Unpack[Float32Execution],
    ) -> None:
        super().__init__(**execution)
        self.rank = check_bit_attack(self, threat, steps, loss)
        self.threat, self.steps, self.loss = threat, steps, loss
        self.random_start = random_start

    def search(self, seen: Seen, turn: int) -> None:
        """One climb, and what it is rounded to."""
        start = self.generator(seen.x.device) if self.random_start else None
        rounding(seen, self.rank, self.threat, self.steps, start=start)

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        return gained(self.search, f, batch)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return run_restarts(self, model, x, y, self.search, skip_misclassified=False)


class RFGSM(Maximizer):
    """rFGSM^k: as `DFGSM`, each coordinate rounded at a threshold of its own, u ~ U(0, 1).

    Arguments:
        draws: of all thresholds, ≥ 1; published: 1.
        others: as for `DFGSM`.

    Source: Al-Dujaili et al. 2018, alg. 1. Differs: several draws, of which the best is kept.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([x[:, 0] - x[:, 1], 0 * x[:, 0]], 1)
    >>> RFGSM(Bits())(model, torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    tensor([[1., 1.]])
    """

    paper = "aldujaili2018adversarial"
    norms = ("bits",)
    refines = True  # more steps are shorter, and end elsewhere

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 50,
        draws: int = 1,
        loss: str = "ce",
        random_start: bool = False,
        **execution: Unpack[Float32Execution],
    ) -> None:
        super().__init__(**execution)
        require(draws >= 1, "draws", draws, "an integer ≥ 1")
        self.rank = check_bit_attack(self, threat, steps, loss)
        self.threat, self.steps, self.draws, self.loss = threat, steps, draws, loss
        self.random_start = random_start

    def search(self, seen: Seen, turn: int) -> None:
        """One climb, and what it is rounded to."""
        by = self.generator(seen.x.device)
        start = by if self.random_start else None
        rounding(seen, self.rank, self.threat, self.steps, self.draws, by, start)

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        return gained(self.search, f, batch)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return run_restarts(self, model, x, y, self.search, skip_misclassified=False)
