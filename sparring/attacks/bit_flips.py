"""Tools of the attacks on bits: flips within a budget, and the batch of a trainer."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..batch import Batch
from ..component import did_you_mean, require, require_at_least
from ..functional import losses
from ..functional.geometry import broadcast_rows, topk_mask
from ..threats.base import Threat
from .base import ActiveSet, Attack, Gain, value_and_grad, value_no_grad


class TrainingBatch:
    """Track the point of highest gain for each row of a trainer's batch, with the verbs of
    `ActiveSet`.

    The gain stands in for the logits, and no row leaves: the trainer needs a point for each.
    """

    def __init__(self, f: Gain, batch: Batch) -> None:
        self.f, self.batch, self.x, self.y = f, batch, batch.x, batch.y
        self.best, self.value = batch.x, batch.x.new_full((len(batch.x),), -torch.inf)

    def __len__(self) -> int:
        return len(self.x)

    def value_and_grad(
        self, _: Callable[[Tensor], Tensor], z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gain at z, its gradient, and the gain again in place of logits."""
        value, grad = value_and_grad(self.f, z)
        return value, grad.nan_to_num(0.0, 0.0, 0.0), value

    def logits_no_grad(self, z: Tensor) -> Tensor:
        """Return the gain at z, which a search hands to `record` in place of logits."""
        return value_no_grad(self.f, z)

    def record(self, z: Tensor, logits: Tensor) -> Tensor | None:
        """Keep the points of higher gain; return None, since all rows stay."""
        better = logits > self.value
        self.best = torch.where(broadcast_rows(better, z), z, self.best)
        self.value = torch.where(better, logits, self.value)
        return None


BitSearchState = ActiveSet | TrainingBatch
LossFunction = Callable[[Tensor, Tensor], Tensor]  # of logits (b, k) and labels (b,), to (b,)


def flipped(z: Tensor, threat: Threat) -> Tensor:
    """Return z with every bit flipped."""
    return torch.where(z == threat.low, threat.high, threat.low).to(z.dtype)


def flippable_bits(threat: Threat, batch: Batch) -> Tensor:
    """Return the mask `(b, *d)` of bits that may flip, the budget aside.

    Raises:
        ValueError: for an x that is not binary.
    """
    x = threat.discretize(batch.x, batch)
    # the projection answers for any threat on bits: it moves exactly the bits that may flip
    return threat.project(flipped(x, threat), batch) != x


def max_flips(threat: Threat, x: Tensor) -> float:
    """Return how many bits of a row may flip, a whole number, or inf if all may."""
    eps = math.inf if threat.eps is None else threat.eps
    # a schedule of eps passes through fractions
    return math.floor(eps) if eps < math.prod(x.shape[1:]) else math.inf


def flip_within_budget(x: Tensor, flips: Tensor, score: Tensor, threat: Threat) -> Tensor:
    """Return x with these flips; if they exceed the budget, with those of highest score."""
    if (eps := max_flips(threat, x)) < math.inf:
        ranked = torch.where(flips, score, -torch.inf).flatten(1)
        flips = flips & topk_mask(ranked, eps).view_as(x)
    return torch.where(flips, flipped(x, threat), x)


def check_bit_attack(attack: Attack, threat: Threat, steps: int, loss: str = "ce") -> LossFunction:
    """Check the arguments of an attack on bits, and return the loss of that name.

    Raises:
        ValueError: for a threat whose points are not bits or has groups, steps < 1, or an unknown
            loss.
    """
    allowed = f"a ball of Bits for {type(attack).__name__}"
    require(threat.binary and not threat.labels, "threat", threat, allowed)
    require(
        not threat.groups,
        "threat.groups",
        threat.groups,
        f"empty for {type(attack).__name__}; the attacks of bits-black-box move groups",
    )
    require_at_least(1, steps=steps)
    if loss not in losses.BY_NAME:
        raise ValueError(did_you_mean("loss", loss, losses.BY_NAME))
    return losses.BY_NAME[loss]
