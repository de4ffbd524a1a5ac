"""BGA, BCA, Grosse, dFGSM and rFGSM: attacks that climb gradients to bits that flip."""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor

from ..batch import Batch, Model
from ..component import require_at_least
from ..functional.geometry import broadcast_rows, norm
from ..runtime import distributed
from ..threats.base import Threat
from .base import Float32Execution, Gain, Maximizer, run_restarts
from .bit_flips import (
    BitSearchState,
    TrainingBatch,
    check_bit_attack,
    flip_within_budget,
    flippable_bits,
    flipped,
    max_flips,
)


def maximize_gain(self: FlipAttack | RoundAttack, f: Gain, batch: Batch) -> Tensor:
    """Return the point of highest gain `(b, *d)` that a search visits in training."""
    active = TrainingBatch(f, batch)
    self.search(active, 0)
    return active.best.detach()


def run_search(self: FlipAttack | RoundAttack, model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Return the adversarial inputs `(b, *d)` of one search, with no pass at x alone."""
    return run_restarts(self, model, x, y, self.search, skip_misclassified=False)


def climb_by_flips(self: FlipAttack, active: BitSearchState, round_index: int) -> None:
    """Take all gradients from x on with a `move(z, gradient, flippable, x)` between them, and
    record every point."""
    z, flippable = active.x, flippable_bits(self.threat, active.batch)
    for step in range(self.steps):
        _, grad, logits = active.value_and_grad(lambda out: self.rank(out, active.y), z)
        keep = active.record(z, logits)
        if len(active) == 0 or step + 1 == self.steps:
            return
        if keep is not None:
            z, grad, flippable = z[keep], grad[keep], flippable[keep]
        before, z = z, self.move(z, grad, flippable, active.x)
        # no move now means no move later; not checked on a GPU, where it would stall the queue
        if not z.is_cuda and torch.equal(before, z):
            return


def climb_and_round(self: RoundAttack, active: BitSearchState, round_index: int) -> None:
    """Climb z ← clip(z + sign(g)/steps), round z at ½, or by `draws` at random thresholds
    u ~ U(0, 1), and record x and the rounded points."""
    threat, generator = self.threat, self.generator(active.x.device)
    if self.random_start:
        active.record(active.x, active.logits_no_grad(active.x))
    if len(active) == 0:
        return
    z, flippable = active.x, flippable_bits(threat, active.batch)
    width = threat.high - threat.low
    z = threat.random_start(active.batch, generator) if self.random_start else z
    grad = torch.zeros_like(z)
    for step in range(self.steps):
        _, grad, logits = active.value_and_grad(lambda out: self.rank(out, active.y), z)
        # of the points of a climb only x is made of bits
        keep = active.record(z, logits) if step == 0 and not self.random_start else None
        if len(active) == 0:
            return
        if keep is not None:
            z, grad, flippable = z[keep], grad[keep], flippable[keep]
        # bits that may not flip move as well, as published: the gradient sees them moved
        z = (z + width / self.steps * grad.sign()).clamp(threat.low, threat.high)
    for _ in range(self.draws or 1):
        x, u = active.x, distributed.draw("uniform", z, generator) if self.draws else 0.5
        flips = flippable & ((z > threat.low + width * u) != (x == threat.high))
        point = flip_within_budget(x, flips, (flipped(x, threat) - x) * grad, threat)
        keep = active.record(point, active.logits_no_grad(point))
        if len(active) == 0:
            return
        if keep is not None:
            z, grad, flippable = z[keep], grad[keep], flippable[keep]


def flip_one(
    z: Tensor, gain: Tensor, candidates: Tensor, flippable: Tensor, x: Tensor, threat: Threat
) -> Tensor:
    """Return z with the bit of highest gain flipped, if that bit may flip.

    It is chosen among the candidates; once the budget is spent, among those that differ from x.
    """
    candidates = candidates.flatten(1)
    if (eps := max_flips(threat, x)) < math.inf:
        changed = (z != x).flatten(1)
        candidates = candidates & (changed | (changed.sum(1, keepdim=True) < eps))
    top, j = gain.flatten(1).masked_fill(~candidates, -torch.inf).max(1, keepdim=True)
    flat = z.flatten(1)
    old = flat.gather(1, j)
    # checked for the winner only: in BCA a bit that may not flip wins the move and wastes it
    flips = (top > -torch.inf) & flippable.flatten(1).gather(1, j)
    return flat.scatter(1, j, torch.where(flips, flipped(old, threat), old)).view_as(z)


class BGA(Maximizer):
    """Flip all bits of steep gradient in each step; return the best point (BGA^k).
    Bit gradient ascent: a bit flips if √d·(1 − 2z_j)·g_j ≥ ‖g‖₂. A later step may take a flip back.
    Within a budget, the flips of steepest gradient stay.

    Arguments:
        steps: gradients k, with k − 1 moves between them; published: 50.
        others: as for `DFGSM`.

    Source: Al-Dujaili et al. 2018, alg. 1 and eq. 8. Differs: a bit flips only if that gains.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([x[:, 0] - x[:, 1], 0 * x[:, 0]], 1)
    >>> BGA(Bits())(model, torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
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
        **execution: Unpack[Float32Execution],
    ) -> None:
        super().__init__(**execution)
        self.rank = check_bit_attack(self, threat, steps, loss)
        self.threat, self.steps, self.loss = threat, steps, loss

    def move(self, z: Tensor, grad: Tensor, flippable: Tensor, x: Tensor) -> Tensor:
        """Return z with all bits flipped that gain enough."""
        gain, width = (flipped(z, self.threat) - z) * grad, self.threat.high - self.threat.low
        gain_threshold = norm(grad, 2) * width / math.prod(x.shape[1:]) ** 0.5
        # as flips of x, not of z: `!=` takes back a bit of z that flips again
        flips = (flippable & (gain >= broadcast_rows(gain_threshold, z)) & (gain > 0)) != (z != x)
        return flip_within_budget(x, flips, (flipped(x, self.threat) - x) * grad, self.threat)

    search = climb_by_flips
    maximize = maximize_gain
    __call__ = run_search


class BCA(Maximizer):
    """Flip one bit in each step, that of largest gain; return the best point (BCA^k).
    Bit coordinate ascent: the bit of largest (1 − 2z_j)·g_j flips even if that loses, and even if
    it flipped before. Once the budget is spent, only bits that flipped before do.

    Arguments:
        steps: gradients k, with k − 1 moves between them; published: 50.
        any_bit: let bits compete that may not flip, as published: a move on one of them is wasted,
            and so are all later ones.
        others: as for `DFGSM`.

    Source: Al-Dujaili et al. 2018, alg. 1.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([x[:, 0] - x[:, 1], 0 * x[:, 0]], 1)
    >>> BCA(Bits(), any_bit=False)(model, torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    tensor([[1., 1.]])
    """

    paper = "aldujaili2018adversarial"
    norms = ("bits",)

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 50,
        any_bit: bool = True,
        loss: str = "ce",
        **execution: Unpack[Float32Execution],
    ) -> None:
        super().__init__(**execution)
        self.rank = check_bit_attack(self, threat, steps, loss)
        self.threat, self.steps, self.any_bit, self.loss = threat, steps, any_bit, loss

    def move(self, z: Tensor, grad: Tensor, flippable: Tensor, x: Tensor) -> Tensor:
        """Return z with one bit flipped."""
        gain = (flipped(z, self.threat) - z) * grad
        return flip_one(z, gain, flippable | self.any_bit, flippable, x, self.threat)

    search = climb_by_flips
    maximize = maximize_gain
    __call__ = run_search


class Grosse(Maximizer):
    """Flip the unflipped bit that raises log p of another class most; return the best point.
    Grosse^k flips only where log p rises, and never takes a flip back. In training the gain stands
    in for log p.

    Arguments:
        steps: gradients k, with k − 1 flips between them; published: 50.
        others: as for `DFGSM`.

    Source: Grosse et al. 2017, sec. 3.2. Differs: the class is the likeliest other one; it also
    removes features if the threat allows that.

    >>> from sparring.threats import Bits
    >>> model = lambda x: torch.stack([x[:, 0] - x[:, 1], 0 * x[:, 0]], 1)
    >>> Grosse(Bits())(model, torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    tensor([[1., 1.]])
    """

    paper = "grosse2017adversarial"
    norms = ("bits",)

    def __init__(
        self, threat: Threat, *, steps: int = 50, **execution: Unpack[Float32Execution]
    ) -> None:
        super().__init__(**execution)
        check_bit_attack(self, threat, steps)
        self.threat, self.steps = threat, steps

    def move(self, z: Tensor, grad: Tensor, flippable: Tensor, x: Tensor) -> Tensor:
        """Return z with one more bit flipped."""
        gain = (flipped(z, self.threat) - z) * grad
        candidates = flippable & (z == x) & (gain > 0)
        return flip_one(z, gain, candidates, flippable, x, self.threat)

    def rank(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return log p of the likeliest class other than y `(b,)`."""
        return logits.log_softmax(1).scatter(1, y.clamp_min(0)[:, None], -torch.inf).amax(1)

    search = climb_by_flips
    maximize = maximize_gain
    __call__ = run_search


class DFGSM(Maximizer):
    """Climb the relaxation by signs of the gradient, and round to bits at ½ (dFGSM^k).
    z ← clip(z + sign(∇ℓ)/k) k times from x; return x if that lost. Bits that may not flip move too
    during the climb, and return to x in the end. If more flips result than the budget allows, those
    of steepest last gradient stay.

    Arguments:
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
    draws = 0  # of thresholds: it rounds at ½

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

    search = climb_and_round
    maximize = maximize_gain
    __call__ = run_search


class RFGSM(Maximizer):
    """Climb as `DFGSM`, and round each coordinate at a random threshold u ~ U(0, 1) (rFGSM^k).

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
        require_at_least(1, draws=draws)
        self.rank = check_bit_attack(self, threat, steps, loss)
        self.threat, self.steps, self.draws, self.loss = threat, steps, draws, loss
        self.random_start = random_start

    search = climb_and_round
    maximize = maximize_gain
    __call__ = run_search


FlipAttack = BGA | BCA | Grosse
RoundAttack = DFGSM | RFGSM
