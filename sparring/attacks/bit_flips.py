"""What the attacks on bits share: a batch in training, flips within a budget."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..batch import Batch
from ..component import did_you_mean, require
from ..functional import losses
from ..functional.geometry import broadcast_rows, highest
from ..threats.base import Threat
from .base import ActiveSet, Attack, Gain, value_and_grad, value_no_grad


class Whole:
    """A batch in training, with the verbs of `ActiveSet`: nobody leaves, the best point is kept."""

    def __init__(self, f: Gain, batch: Batch) -> None:
        self.f, self.batch, self.x, self.y = f, batch, batch.x, batch.y
        self.best, self.value = batch.x, batch.x.new_full((len(batch.x),), -torch.inf)

    def __len__(self) -> int:
        return len(self.x)

    def value_and_grad(
        self, _: Callable[[Tensor], Tensor], z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gain at z, its gradient, and the gain again in place of logits."""
        value, grad = value_and_grad(self.f, z)
        return value, grad.nan_to_num(0.0, 0.0, 0.0), value

    def logits_no_grad(self, z: Tensor) -> Tensor:
        """The gain at z."""
        return value_no_grad(self.f, z)

    def record(self, z: Tensor, logits: Tensor) -> Tensor | None:
        """Keep what gains more."""
        better = logits > self.value
        self.best = torch.where(broadcast_rows(better, z), z, self.best)
        self.value = torch.where(better, logits, self.value)
        return None


Seen = ActiveSet | Whole
Rank = Callable[[Tensor, Tensor], Tensor]


def flipped(z: Tensor, threat: Threat) -> Tensor:
    """Every bit of z flipped."""
    return torch.where(z == threat.low, threat.high, threat.low).to(z.dtype)


def may_flip(threat: Threat, batch: Batch) -> Tensor:
    """The bits that the threat lets go `(b, *d)`: those that projecting moves at all."""
    x = threat.discretize(batch.x, batch)  # which refuses an x that is not binary
    return threat.project(flipped(x, threat), batch) != x


def budget(threat: Threat, x: Tensor) -> float:
    """How many bits may flip, inf where all of them may."""
    eps = math.inf if threat.eps is None else threat.eps
    return eps if eps < math.prod(x.shape[1:]) else math.inf


def settle(x: Tensor, flips: Tensor, score: Tensor, threat: Threat) -> Tensor:
    """x with these flips; where they are more than the budget, with those of highest score."""
    if (eps := budget(threat, x)) < math.inf:
        of = torch.where(flips, score, -torch.inf).flatten(1)
        flips = flips & highest(of, eps).view_as(x)
    return torch.where(flips, flipped(x, threat), x)


def gained(search: Callable[[Seen, int], None], f: Gain, batch: Batch) -> Tensor:
    """The point of highest gain that a search comes by, in training."""
    seen = Whole(f, batch)
    search(seen, 0)
    return seen.best.detach()


def check_bit_attack(attack: Attack, threat: Threat, steps: int, loss: str = "ce") -> Rank:
    """The loss by its name.

    Raises:
        ValueError: for a threat whose points are no bits, or what else does not exist.
    """
    allowed = f"a ball of Bits for {type(attack).__name__}"
    require(threat.binary and not threat.labels, "threat", threat, allowed)
    require(steps >= 1, "steps", steps, "an integer ≥ 1")
    if loss not in losses.BY_NAME:
        raise ValueError(did_you_mean("loss", loss, losses.BY_NAME))
    return losses.BY_NAME[loss]
