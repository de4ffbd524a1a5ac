"""dFGSM and rFGSM: attacks that climb between bits, and round at the end."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Generator, Tensor

from ..batch import Batch, Model
from ..component import require
from ..runtime import distributed
from ..threats.base import Threat
from .base import Float32Execution, Gain, Maximizer, run_restarts
from .bit_flips import (
    LossFunction,
    SearchState,
    check_bit_attack,
    flip_within_budget,
    flippable_bits,
    flipped,
    maximize_gain,
)


def climb_and_round(
    active: SearchState,
    loss: LossFunction,
    threat: Threat,
    steps: int,
    draws: int = 1,
    generator: Generator | None = None,
    start: Generator | None = None,
) -> None:
    """Climb z ← clip(z + sign(g)/steps), round z, and record x and the rounded points.

    Arguments:
        draws: roundings at random thresholds u, z > u.
        generator: draws u ~ U(0, 1); None rounds at u = ½.
        start: draws the point where the climb begins; None begins at x.
    """
    if start is not None:
        active.record(active.x, active.logits_no_grad(active.x))
    if len(active) == 0:
        return
    z, flippable = active.x, flippable_bits(threat, active.batch)
    width = threat.high - threat.low
    z = z if start is None else threat.random_start(active.batch, start)
    grad = torch.zeros_like(z)
    for step in range(steps):
        _, grad, logits = active.value_and_grad(lambda out, y=active.y: loss(out, y), z)
        # of the points of a climb only x is made of bits
        keep = active.record(z, logits) if step == 0 and start is None else None
        if len(active) == 0:
            return
        if keep is not None:
            z, grad, flippable = z[keep], grad[keep], flippable[keep]
        # bits that may not flip move as well, as published: the gradient sees them moved
        z = (z + width / steps * grad.sign()).clamp(threat.low, threat.high)
    for _ in range(draws):
        x, u = active.x, 0.5 if generator is None else distributed.draw("uniform", z, generator)
        flips = flippable & ((z > threat.low + width * u) != (x == threat.high))
        point = flip_within_budget(x, flips, (flipped(x, threat) - x) * grad, threat)
        keep = active.record(point, active.logits_no_grad(point))
        if len(active) == 0:
            return
        if keep is not None:
            z, grad, flippable = z[keep], grad[keep], flippable[keep]


class DFGSM(Maximizer):
    """dFGSM^k: climb z ← clip(z + sign(∇ℓ)/k) k times from x, round at ½; return x if that lost.

    Bits that may not flip move too during the climb, and return to x in the end. If more flips
    result than the budget allows, those of steepest last gradient stay.

    Arguments:
        threat: Bits.
        steps: gradients k; published: 50.
        loss: climbed outside of training: `"ce"`, `"margin"` or `"dlr"`; a trainer hands its gain.
        random_start: climb from a random point of the threat instead of x; for a gain such as that
            of TRADES, whose gradient is 0 at x. Published: from x.

    Source: Al-Dujaili et al. 2018, alg. 1.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([x[:, 0] - x[:, 1], 0 * x[:, 0]], 1)
    >>> DFGSM(Bits())(model, torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    tensor([[1., 1.]])
    """

    paper = "aldujaili2018adversarial"
    norms = ("bits",)

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

    def search(self, active: SearchState, turn: int) -> None:
        """Climb once and round."""
        start = self.generator(active.x.device) if self.random_start else None
        climb_and_round(active, self.rank, self.threat, self.steps, start=start)

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        return maximize_gain(self.search, f, batch)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return run_restarts(self, model, x, y, self.search, skip_misclassified=False)


class RFGSM(Maximizer):
    """rFGSM^k: climb as `DFGSM`, and round each coordinate at a random threshold u ~ U(0, 1).

    Arguments:
        draws: of the thresholds, ≥ 1; published: 1.
        others: as for `DFGSM`.

    Source: Al-Dujaili et al. 2018, alg. 1. Differs: it keeps the best of several draws.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([x[:, 0] - x[:, 1], 0 * x[:, 0]], 1)
    >>> RFGSM(Bits())(model, torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    tensor([[1., 1.]])
    """

    paper = "aldujaili2018adversarial"
    norms = ("bits",)

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

    def search(self, active: SearchState, turn: int) -> None:
        """Climb once and round by each draw."""
        generator = self.generator(active.x.device)
        start = generator if self.random_start else None
        climb_and_round(active, self.rank, self.threat, self.steps, self.draws, generator, start)

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        return maximize_gain(self.search, f, batch)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return run_restarts(self, model, x, y, self.search, skip_misclassified=False)
