"""What CW and EAD share: rounds that look for the closest adversarial point by a length of δ and a
hinge on the margin, whose weight c is searched."""

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
from .base import ActiveSet, check


@dataclass
class State:
    """What a search knows of each sample that stands.

    Attributes:
        c, lower, upper: `(a,)` weight of the hinge and its bounds.
        best, point: the closest adversarial point so far: its distance `(a,)` and itself.
        won, nearer: of this round: is something found, has it come closer.
        live, last: of this round: does the loss still fall, and its value when that was asked last.
        own: what only one kind of search needs, by name, a row a sample.
    """

    c: Tensor
    lower: Tensor
    upper: Tensor
    best: Tensor
    point: Tensor
    won: Tensor
    nearer: Tensor
    live: Tensor
    last: Tensor
    own: dict[str, Tensor]

    def take(self, keep: Tensor) -> State:
        """Only the rows to keep."""
        rows = {name: value[keep] for name, value in vars(self).items() if name != "own"}
        return State(**rows, own={name: value[keep] for name, value in self.own.items()})

    def restart(self) -> None:
        """Begin a round; what is wrong at x itself is not searched."""
        self.won, self.nearer = torch.zeros_like(self.won), torch.zeros_like(self.won)
        self.live, self.last = self.best > 0, torch.full_like(self.last, math.inf)

    def settle(self, loss: Tensor) -> None:
        """A row whose loss `(a,)` fell by less than 0.01 % since it was asked last lives no
        more."""
        self.live, self.last = self.live & ~(loss >= 0.9999 * self.last), loss


def at(x: Tensor, c: float, **own: Tensor) -> State:
    """Before the first round, at inputs `x (a, *d)`."""
    no, far = (
        torch.zeros(len(x), dtype=torch.bool, device=x.device),
        x.new_full((len(x),), math.inf),
    )
    start = torch.full_like(far, c)
    return State(start, 0 * start, far, far, x, no, no, ~no, far, own)


@runtime_checkable
class Hunter(Protocol):
    """An attack that looks for the closest point in rounds, one c a round."""

    threat: Threat
    mode: str
    steps: int
    search_steps: int
    size: float
    c: float
    confidence: float

    def begin(self, active: ActiveSet, eps: float | None) -> State:
        """The state before the first round; no eps where any distance counts."""
        ...

    def descend(self, active: ActiveSet, s: State, eps: float | None) -> State:
        """One round; with eps, a row leaves once it is broken inside."""
        ...

    def weigh(self, s: State, eps: float | None) -> None:
        """c of the next round."""
        ...


def limits(attack: Hunter) -> None:
    """Raise a `ValueError` for a number of the search that cannot be."""
    require(attack.steps >= 1, "steps", attack.steps, "an integer ≥ 1")
    require(attack.search_steps >= 1, "search_steps", attack.search_steps, "an integer ≥ 1")
    require(attack.size > 0, "size", attack.size, "a rate > 0")
    require(attack.c > 0, "c", attack.c, "a weight > 0")
    confidence = attack.confidence
    require(confidence >= 0, "confidence", confidence, "a margin ≥ 0 in logits")


def hunt(attack: Hunter, active: ActiveSet, s: State, eps: float | None) -> State:
    """All rounds."""
    for _ in range(attack.search_steps):
        s.restart()
        s = attack.descend(active, s, eps)
        if len(active) == 0:
            break
        attack.weigh(s, eps)
    return s


def search(attack: Hunter, active: ActiveSet) -> None:
    """The rounds inside the ball of the attack's threat."""
    eps: float = attack.threat.eps  # type: ignore[attr-defined]
    if eps > 0:
        hunt(attack, active, attack.begin(active, eps), eps)


def distances(attack: Hunter, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The closest adversarial points found and their distances `(b,)` in the threat's norm, inf
    (and x) where none is.

    eps is ignored, and the model runs in its own precision; a sample that is wrong at x has
    distance 0.
    """
    check(x, y, attack.threat)
    if len(x) == 0:
        return x.clone(), x.new_zeros(0)
    with freeze.frozen(model, attack.mode):
        active = ActiveSet(model, x, y)
        wrong = active.is_adversarial(active.exact(x), y)
        state = attack.begin(active, None)
        state.best = torch.where(wrong, 0.0, state.best)
        state = hunt(attack, active, state, None)
    return state.point.detach(), state.best


def bisect(s: State) -> None:
    """c half way between what failed and what won, ×10 until one has."""
    s.upper = torch.where(s.won, torch.minimum(s.upper, s.c), s.upper)
    s.lower = torch.where(s.won, s.lower, torch.maximum(s.lower, s.c))
    s.c = torch.where(s.upper.isfinite(), (s.lower + s.upper) / 2, 10 * s.c)


def hinge(attack: Hunter, active: ActiveSet, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """max(κ − margin, 0) at z `(a,)`, its gradient in z and the logits; margin > 0 is wrong."""
    y = active.y
    value, slope, logits = active.value_and_grad(
        lambda out: -(attack.confidence - margin(out, y)).clamp_min(0), z
    )
    return -value, -slope, logits


def note(
    attack: Hunter, active: ActiveSet, s: State, z: Tensor, logits: Tensor, eps: float | None
) -> Tensor | None:
    """Remember in s what is closer; with eps, tell what is inside, and say which rows stay: the
    caller keeps the same of s and of its own."""
    far, value = attack.threat.distance(z, active.x), margin(logits, active.y)
    good = active.is_adversarial(logits, active.y) & (value >= attack.confidence)
    closer = good & (far < s.best)
    s.point, s.best = (
        torch.where(broadcast_rows(closer, z), z, s.point),
        torch.where(closer, far, s.best),
    )
    s.won, s.nearer = s.won | good, s.nearer | closer
    if eps is None:
        return None
    near = far <= eps
    right = torch.nn.functional.one_hot(active.y, logits.shape[1]).to(logits.dtype)
    seen = torch.where((good & near)[:, None], logits, right)
    return active.record(z, seen, torch.where(near, value, -math.inf))
