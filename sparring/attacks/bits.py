"""BGA, BCA and Grosse: attacks that flip bits by their gradients, many at a time or one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Unpack

import torch
from torch import Tensor

from ..batch import Batch, Model
from ..functional.geometry import broadcast_rows, norm
from ..threats.base import Threat
from .base import Float32Execution, Gain, Maximizer, run_restarts
from .bit_flips import (
    LossFunction,
    SearchState,
    check_bit_attack,
    flip_within_budget,
    flippable_bits,
    flipped,
    max_flips,
    maximize_gain,
)

Move = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # of z, gradient, flippable and x


def climb_by_flips(
    active: SearchState, loss: LossFunction, threat: Threat, steps: int, move: Move
) -> None:
    """Take `steps` gradients from x on with a `move(z, gradient, flippable, x)` between them, and
    record every point."""
    z, flippable = active.x, flippable_bits(threat, active.batch)
    for step in range(steps):
        _, grad, logits = active.value_and_grad(lambda out, y=active.y: loss(out, y), z)
        keep = active.record(z, logits)
        if len(active) == 0 or step + 1 == steps:
            return
        if keep is not None:
            z, grad, flippable = z[keep], grad[keep], flippable[keep]
        before, z = z, move(z, grad, flippable, active.x)
        # no move now means no move later; not checked on a GPU, where it would stall the queue
        if not z.is_cuda and torch.equal(before, z):
            return


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
    """BGA^k, bit gradient ascent: flip all bits with √d·(1 − 2z_j)·g_j ≥ ‖g‖₂; return the best
    point.

    A later step may take a flip back. Within a budget, the flips of steepest gradient stay.

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
        enough = norm(grad, 2) * width / math.prod(x.shape[1:]) ** 0.5
        # as flips of x, not of z: `!=` takes back a bit of z that flips again
        flips = (flippable & (gain >= broadcast_rows(enough, z)) & (gain > 0)) != (z != x)
        return flip_within_budget(x, flips, (flipped(x, self.threat) - x) * grad, self.threat)

    def search(self, active: SearchState, turn: int) -> None:
        """Climb once from x."""
        climb_by_flips(active, self.rank, self.threat, self.steps, self.move)

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        return maximize_gain(self.search, f, batch)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return run_restarts(self, model, x, y, self.search, skip_misclassified=False)


class BCA(Maximizer):
    """BCA^k, bit coordinate ascent: flip the bit of largest (1 − 2z_j)·g_j; return the best point.

    The bit flips even if that loses, and even if it flipped before. Once the budget is spent, only
    bits that flipped before do.

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

    def search(self, active: SearchState, turn: int) -> None:
        """Climb once from x."""
        climb_by_flips(active, self.rank, self.threat, self.steps, self.move)

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        return maximize_gain(self.search, f, batch)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return run_restarts(self, model, x, y, self.search, skip_misclassified=False)


class Grosse(Maximizer):
    """Grosse^k: flip the unflipped bit that raises log p of another class most, if one does; return
    the best point.

    It never takes a flip back. In training the gain stands in for log p.

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

    def search(self, active: SearchState, turn: int) -> None:
        """Climb once from x."""
        climb_by_flips(active, self.rank, self.threat, self.steps, self.move)

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        return maximize_gain(self.search, f, batch)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return run_restarts(self, model, x, y, self.search, skip_misclassified=False)
