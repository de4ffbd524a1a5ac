"""Attacks that flip bits by their gradients: many at a time, or one."""

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
from .bit_flips import Rank, Seen, budget, check_bit_attack, flipped, gained, may_flip, settle

Move = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def walk(seen: Seen, rank: Rank, threat: Threat, steps: int, move: Move) -> None:
    """`steps` gradients from x on, and between them moves `move(z, gradient, may, x)`; every point
    is told."""
    z, may = seen.x, may_flip(threat, seen.batch)
    for step in range(steps):
        _, grad, logits = seen.value_and_grad(lambda out, y=seen.y: rank(out, y), z)
        keep = seen.record(z, logits)
        if len(seen) == 0 or step + 1 == steps:
            return
        if keep is not None:
            z, grad, may = z[keep], grad[keep], may[keep]
        before, z = z, move(z, grad, may, seen.x)
        if not z.is_cuda and torch.equal(before, z):
            return


def flip_one(
    z: Tensor, gain: Tensor, among: Tensor, may: Tensor, x: Tensor, threat: Threat
) -> Tensor:
    """z with the bit of highest gain flipped: of those `among`, within the budget, and only if it
    may."""
    among = among.flatten(1)
    if (eps := budget(threat, x)) < math.inf:
        away = (z != x).flatten(1)
        among = among & (away | (away.sum(1, keepdim=True) < eps))
    top, j = gain.flatten(1).masked_fill(~among, -torch.inf).max(1, keepdim=True)
    flat = z.flatten(1)
    old = flat.gather(1, j)
    goes = (top > -torch.inf) & may.flatten(1).gather(1, j)
    return flat.scatter(1, j, torch.where(goes, flipped(old, threat), old)).view_as(z)


class BGA(Maximizer):
    """BGA^k, bit gradient ascent: flips all bits with √d·(1 − 2z_j)·g_j ≥ ‖g‖₂; the best iterate.

    Flips may go back. Within a budget, those with the steepest gradient are kept.

    Arguments:
        steps: gradients k, with k − 1 moves between them; published: 50.
        others: as for `DFGSM`.

    Source: Al-Dujaili et al. 2018, alg. 1 and eq. 8. Differs: nothing flips where it does not gain.

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

    def move(self, z: Tensor, grad: Tensor, may: Tensor, x: Tensor) -> Tensor:
        """z with all the bits flipped that gain enough."""
        gain, width = (flipped(z, self.threat) - z) * grad, self.threat.high - self.threat.low
        enough = norm(grad, 2) * width / math.prod(x.shape[1:]) ** 0.5
        flips = (may & (gain >= broadcast_rows(enough, z)) & (gain > 0)) != (z != x)
        return settle(x, flips, (flipped(x, self.threat) - x) * grad, self.threat)

    def search(self, seen: Seen, turn: int) -> None:
        """One walk."""
        walk(seen, self.rank, self.threat, self.steps, self.move)

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        return gained(self.search, f, batch)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return run_restarts(self, model, x, y, self.search, skip_misclassified=False)


class BCA(Maximizer):
    """BCA^k, bit coordinate ascent: flips the bit of largest (1 − 2z_j)·g_j; the best iterate.

    It flips it, gain or not; bits it flipped before too, once the budget is spent only these.

    Arguments:
        steps: gradients k, with k − 1 moves between them; published: 50.
        any_bit: bits that may not flip compete too, as published: a move on one of them is lost,
            and so are all after it.
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

    def move(self, z: Tensor, grad: Tensor, may: Tensor, x: Tensor) -> Tensor:
        """z with one bit flipped."""
        gain, among = (flipped(z, self.threat) - z) * grad, may | self.any_bit
        return flip_one(z, gain, among, may, x, self.threat)

    def search(self, seen: Seen, turn: int) -> None:
        """One walk."""
        walk(seen, self.rank, self.threat, self.steps, self.move)

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        return gained(self.search, f, batch)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return run_restarts(self, model, x, y, self.search, skip_misclassified=False)


class Grosse(Maximizer):
    """Grosse^k: flips the unflipped bit that raises log p of another class most, if one does; the
    best iterate.

    It never takes a flip back. In training the gain stands in for log p.

    Arguments:
        steps: gradients k, with k − 1 flips between them; published: 50.
        others: as for `DFGSM`.

    Source: Grosse et al. 2017, sec. 3.2. Differs: the class is the likeliest other one; it removes
    features too where the threat allows that.

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

    def move(self, z: Tensor, grad: Tensor, may: Tensor, x: Tensor) -> Tensor:
        """z with one bit more flipped."""
        gain = (flipped(z, self.threat) - z) * grad
        return flip_one(z, gain, may & (z == x) & (gain > 0), may, x, self.threat)

    def rank(self, logits: Tensor, y: Tensor) -> Tensor:
        """log p of the likeliest class that is not y `(b,)`."""
        return logits.log_softmax(1).scatter(1, y.clamp_min(0)[:, None], -torch.inf).amax(1)

    def search(self, seen: Seen, turn: int) -> None:
        """One walk."""
        walk(seen, self.rank, self.threat, self.steps, self.move)

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        return gained(self.search, f, batch)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return run_restarts(self, model, x, y, self.search, skip_misclassified=False)
