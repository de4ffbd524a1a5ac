"""Search for the closest adversarial point in rounds, by a penalty on δ plus a weighted hinge on
the margin: the loop that CW and EAD share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..batch import Model
from ..component import require, require_at_least
from ..functional.geometry import broadcast_rows
from ..functional.losses import margin
from ..introspect.predict import has_class
from ..threats.base import Threat
from .base import GPU_CONFIRM_PERIOD, ActiveSet, begin_call


class SearchState:
    """Hold the state of a search, one row per active sample.

    Attributes:
        eps: radius of the ball that the search stays in; None where any distance counts.
        c, lower, upper: `(a,)` weight of the hinge and its bounds.
        distance, point: the closest adversarial point so far: its distance `(a,)` and itself.
        succeeded, improved: of this round `(a,)`: a point was adversarial; one was the closest yet.
        falling, last_loss: of this round `(a,)`: the loss still falls; its value at the last check.
        extra: tensors of one kind of search, by name, one row per sample.
    """

    def __init__(
        self, attack: MinimalNorm, active: ActiveSet, eps: float | None, **extra: Tensor
    ) -> None:
        self.attack, self.active, self.eps, self.extra = attack, active, eps, extra
        self.point, infinite = active.x, active.x.new_full((len(active),), math.inf)
        self.distance = self.upper = self.last_loss = infinite
        self.c, self.lower = torch.full_like(infinite, attack.c), torch.zeros_like(infinite)
        self.succeeded = self.improved = torch.zeros_like(infinite, dtype=torch.bool)
        self.falling = ~self.succeeded
        if active.confirm_period > 1:  # the host of a GPU also waits for `falling`
            active.confirm_period = 2 * GPU_CONFIRM_PERIOD

    def run(self) -> None:
        """Run all rounds; rows that are wrong at x itself are not searched."""
        for _ in range(self.attack.search_steps):
            self.succeeded = self.improved = torch.zeros_like(self.succeeded)
            self.falling = self.distance > 0
            self.last_loss = torch.full_like(self.last_loss, math.inf)
            self.attack.descend(self)
            if len(self.active) == 0:
                return
            self.attack.update_weight(self)

    def bisect_weight(self) -> None:
        """Set c half way between weights that failed and succeeded, ×10 until one has succeeded."""
        c, succeeded = self.c, self.succeeded
        self.upper = torch.where(succeeded, torch.minimum(self.upper, c), self.upper)
        self.lower = torch.where(succeeded, self.lower, torch.maximum(self.lower, c))
        self.c = torch.where(self.upper.isfinite(), (self.lower + self.upper) / 2, 10 * c)

    def hinge(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute max(κ − margin, 0) at z `(a,)`, its gradient in z and the logits."""
        y, confidence = self.active.y, self.attack.confidence
        f = lambda logits: -(confidence - margin(logits, y)).clamp_min(0)  # noqa: E731
        value, grad, logits = self.active.value_and_grad(f, z)
        return -value, -grad, logits

    def ends_round(self, step: int, z: Tensor, logits: Tensor, loss: Tensor) -> bool:
        """Record the points of step number `step`, from 1; return whether the round ends with it.

        With eps, rows leave once they are broken inside. If the attack aborts, rows whose loss
        `(a,)` fell by less than 0.01 % since the last check stop.
        """
        keep = self._record(z, logits)
        if len(self.active) == 0:
            return True
        if keep is not None:
            loss = loss[keep]
            for tensors in (vars(self), self.extra):
                tensors |= {k: v[keep] for k, v in tensors.items() if isinstance(v, Tensor)}
        if not self.attack.abort or step % max(self.attack.steps // 10, 1):
            return False
        # ~(≥), not <: a row whose loss is NaN goes on
        self.falling, self.last_loss = self.falling & ~(loss >= 0.9999 * self.last_loss), loss
        # on a GPU, where the host waits for the answer, in every other check
        checked = step // max(self.attack.steps // 10, 1)
        return not (loss.is_cuda and checked % 2) and not self.falling.any()

    def _record(self, z: Tensor, logits: Tensor) -> Tensor | None:
        """Keep points that are closer; with eps, record those inside, as `ActiveSet.record`."""
        active, attack = self.active, self.attack
        distance, value = attack.threat.distance(z, active.x), margin(logits, active.y)
        leads = ~has_class(logits) | (value >= attack.confidence)  # no class: nothing to lead by
        confident = active.is_adversarial(logits, active.y) & leads
        closer = confident & (distance < self.distance)
        self.point = torch.where(broadcast_rows(closer, z), z, self.point)
        self.distance = torch.where(closer, distance, self.distance)
        self.succeeded, self.improved = self.succeeded | confident, self.improved | closer
        if self.eps is None:
            return None
        # Infeasible points must not count: record them as right, and at the lowest value.
        inside = distance <= self.eps
        right = torch.nn.functional.one_hot(active.y, logits.shape[1]).to(logits.dtype)
        logits = torch.where((confident & inside)[:, None], logits, right)
        return active.record(z, logits, torch.where(inside, value, -math.inf))


@runtime_checkable  # the tests check annotations while they run
class MinimalNorm(Protocol):
    """Minimize the norm of δ in rounds, with one weight c per round."""

    if TYPE_CHECKING:  # a submodule, which isinstance overlooks from Python 3.12 on
        threat: Threat
    mode: str
    steps: int
    search_steps: int
    size: float
    c: float
    confidence: float
    abort: bool

    def start(self, active: ActiveSet, eps: float | None) -> SearchState:
        """Return the state before the first round."""
        ...

    def descend(self, state: SearchState) -> None:
        """Run one round at fixed weight c; a row whose loss no longer falls stays where it is."""

    def update_weight(self, state: SearchState) -> None:
        """Set c of the next round."""


def check_keywords(attack: MinimalNorm) -> None:
    """Raise `ValueError` for a keyword of the search outside its range."""
    require_at_least(1, steps=attack.steps, search_steps=attack.search_steps)
    require(attack.size > 0, "size", attack.size, "a rate > 0")
    require(attack.c > 0, "c", attack.c, "a weight > 0")
    require(attack.confidence >= 0, "confidence", attack.confidence, "a margin ≥ 0 in logits")


def search_ball(attack: MinimalNorm, active: ActiveSet) -> None:
    """Run all rounds inside the ball of the attack's threat."""
    eps: float = attack.threat.eps  # type: ignore[assignment]
    if eps > 0:
        attack.start(active, eps).run()


def distances(attack: MinimalNorm, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the closest adversarial points and their distances `(b,)` in the threat's norm; inf
    (and x) without one.

    eps is ignored, and the model runs in its own precision; a sample that is wrong at x has
    distance 0.
    """
    with begin_call(model, x, y, threat=attack.threat, mode=attack.mode) as (x, y):
        if len(x) == 0:
            return x.clone(), x.new_zeros(0)
        active = ActiveSet(model, x, y)
        wrong = active.is_adversarial(active.logits_float32(x), y)
        state = attack.start(active, None)
        state.distance = torch.where(wrong, 0.0, state.distance)
        state.run()
    return state.point.detach(), state.distance
