"""Search for the closest adversarial point in rounds, by a penalty on δ plus a weighted hinge on
the margin: the loop that CW and EAD share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..batch import Model
from ..component import require
from ..functional.geometry import broadcast_rows
from ..functional.losses import margin
from ..introspect import freeze
from ..threats.base import Threat
from .base import ActiveSet, check_inputs


@dataclass
class SearchState:
    """Hold the state of a search, one row per active sample.

    Attributes:
        c, lower, upper: `(a,)` weight of the hinge and its bounds.
        distance, point: the closest adversarial point so far: its distance `(a,)` and itself.
        succeeded, improved: of this round `(a,)`: a point was adversarial; one was the closest yet.
        falling, last_loss: of this round `(a,)`: the loss still falls; its value at the last check.
        extra: tensors of one kind of search, by name, one row per sample.
    """

    c: Tensor
    lower: Tensor
    upper: Tensor
    distance: Tensor
    point: Tensor
    succeeded: Tensor
    improved: Tensor
    falling: Tensor
    last_loss: Tensor
    extra: dict[str, Tensor]

    def take(self, rows: Tensor) -> SearchState:
        """Return the state with only these rows."""
        kept = {name: value[rows] for name, value in vars(self).items() if name != "extra"}
        extra = {name: value[rows] for name, value in self.extra.items()}
        return SearchState(**kept, extra=extra)

    def restart(self) -> None:
        """Begin a round; rows that are wrong at x itself are not searched."""
        self.succeeded = torch.zeros_like(self.succeeded)
        self.improved = torch.zeros_like(self.improved)
        self.falling = self.distance > 0
        self.last_loss = torch.full_like(self.last_loss, math.inf)

    def check_progress(self, loss: Tensor) -> None:
        """Stop rows whose loss `(a,)` fell by less than 0.01 % since the last check."""
        # ~(≥), not <: a row whose loss is NaN goes on
        self.falling, self.last_loss = self.falling & ~(loss >= 0.9999 * self.last_loss), loss


def initial_state(x: Tensor, c: float, **extra: Tensor) -> SearchState:
    """Return the state before the first round, at inputs `x (a, *d)`."""
    no = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    far = x.new_full((len(x),), math.inf)
    weight = torch.full_like(far, c)
    return SearchState(weight, 0 * weight, far, far, x, no, no, ~no, far, extra)


@runtime_checkable
class MinimalNorm(Protocol):
    """Minimize the norm of δ in rounds, with one weight c per round."""

    threat: Threat
    mode: str
    steps: int
    search_steps: int
    size: float
    c: float
    confidence: float

    def start(self, active: ActiveSet, eps: float | None) -> SearchState:
        """Return the state before the first round; eps is None where any distance counts."""
        ...

    def descend(self, active: ActiveSet, state: SearchState, eps: float | None) -> SearchState:
        """Run one round; with eps, a row leaves once it is broken inside."""
        ...

    def update_weight(self, state: SearchState, eps: float | None) -> None:
        """Set c of the next round."""
        ...


def check_keywords(attack: MinimalNorm) -> None:
    """Raise `ValueError` for a keyword of the search outside its range."""
    require(attack.steps >= 1, "steps", attack.steps, "an integer ≥ 1")
    require(attack.search_steps >= 1, "search_steps", attack.search_steps, "an integer ≥ 1")
    require(attack.size > 0, "size", attack.size, "a rate > 0")
    require(attack.c > 0, "c", attack.c, "a weight > 0")
    confidence = attack.confidence
    require(confidence >= 0, "confidence", confidence, "a margin ≥ 0 in logits")


def run_rounds(
    attack: MinimalNorm, active: ActiveSet, state: SearchState, eps: float | None
) -> SearchState:
    """Run all rounds; return the last state."""
    for _ in range(attack.search_steps):
        state.restart()
        state = attack.descend(active, state, eps)
        if len(active) == 0:
            break
        attack.update_weight(state, eps)
    return state


def search_ball(attack: MinimalNorm, active: ActiveSet) -> None:
    """Run all rounds inside the ball of the attack's threat."""
    eps: float = attack.threat.eps  # type: ignore[assignment]
    if eps > 0:
        run_rounds(attack, active, attack.start(active, eps), eps)


def distances(attack: MinimalNorm, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the closest adversarial points and their distances `(b,)` in the threat's norm; inf
    (and x) without one.

    eps is ignored, and the model runs in its own precision; a sample that is wrong at x has
    distance 0.
    """
    check_inputs(x, y, attack.threat)
    if len(x) == 0:
        return x.clone(), x.new_zeros(0)
    with freeze.frozen(model, attack.mode):
        active = ActiveSet(model, x, y)
        wrong = active.is_adversarial(active.logits_float32(x), y)
        state = attack.start(active, None)
        state.distance = torch.where(wrong, 0.0, state.distance)
        state = run_rounds(attack, active, state, None)
    return state.point.detach(), state.distance


def bisect_weight(state: SearchState) -> None:
    """Set c half way between weights that failed and succeeded, ×10 until one has succeeded."""
    c, succeeded = state.c, state.succeeded
    state.upper = torch.where(succeeded, torch.minimum(state.upper, c), state.upper)
    state.lower = torch.where(succeeded, state.lower, torch.maximum(state.lower, c))
    state.c = torch.where(state.upper.isfinite(), (state.lower + state.upper) / 2, 10 * c)


def hinge(attack: MinimalNorm, active: ActiveSet, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute max(κ − margin, 0) at z `(a,)`, its gradient in z and the logits."""
    y = active.y
    value, grad, logits = active.value_and_grad(
        lambda logits: -(attack.confidence - margin(logits, y)).clamp_min(0), z
    )
    return -value, -grad, logits


def record(
    attack: MinimalNorm,
    active: ActiveSet,
    state: SearchState,
    z: Tensor,
    logits: Tensor,
    eps: float | None,
) -> Tensor | None:
    """Store points that are closer in the state; with eps, record those inside the ball.

    Returns:
        Which rows stay, as from `ActiveSet.record`: the caller takes them of its state.
    """
    distance, value = attack.threat.distance(z, active.x), margin(logits, active.y)
    good = active.is_adversarial(logits, active.y) & (value >= attack.confidence)
    closer = good & (distance < state.distance)
    state.point = torch.where(broadcast_rows(closer, z), z, state.point)
    state.distance = torch.where(closer, distance, state.distance)
    state.succeeded, state.improved = state.succeeded | good, state.improved | closer
    if eps is None:
        return None
    # Infeasible points must not count: record them as right, and at the lowest value.
    inside = distance <= eps
    right = torch.nn.functional.one_hot(active.y, logits.shape[1]).to(logits.dtype)
    logits = torch.where((good & inside)[:, None], logits, right)
    return active.record(z, logits, torch.where(inside, value, -math.inf))
