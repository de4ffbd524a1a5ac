"""Judging from outside: what the model says in float32, and whether a point was allowed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..batch import Batch, Model
from ..functional.geometry import SLACK, broadcast_rows
from ..introspect.predict import logits, predicted_class
from ..threats.base import Threat

OUTSIDE = 1e-5  # rounding of eps, relative; and how far projecting may move an allowed point


def lead(z: Tensor, y: Tensor) -> Tensor:
    """By how much the logit of y is above all others `(b,)`; NaN where logits are not finite.

    >>> lead(torch.tensor([[1.0, 3.0, 0.5]]), torch.tensor([1]))
    tensor([2.])
    """
    own, rest = z.gather(1, y[:, None])[:, 0], z.scatter(1, y[:, None], -torch.inf)
    return torch.where(torch.isfinite(z).all(1), own - rest.amax(1), torch.nan)


def feasible(threat: Threat, x_adv: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Which points the threat allows `(b,)`: finite, in the box, within eps, kept by projecting and
    by snapping.

    d(x', x) ≤ eps·(1 + 1e-5) + 1e-6, low ≤ x' ≤ high, ‖project(x') − x'‖_∞ ≤ 1e-5·(high − low),
    discretize(x') = x': bits have no rounding to forgive.

    >>> from sparring.threats import Linf
    >>> x = torch.full((3, 1), 0.5)
    >>> feasible(Linf(0.1), torch.tensor([[0.6], [0.7], [torch.nan]]), x, torch.zeros(3, dtype=int))
    tensor([ True, False, False])
    """
    if len(x) == 0:
        return torch.ones(0, dtype=torch.bool, device=x.device)
    ok = torch.isfinite(x_adv).flatten(1).all(1)
    point = torch.where(broadcast_rows(ok, x), x_adv, x)
    ok = ok & ((point >= threat.low - SLACK) & (point <= threat.high + SLACK)).flatten(1).all(1)
    eps = threat.eps
    if eps is not None:
        ok = ok & (threat.distance(point, x) <= eps * (1 + OUTSIDE) + SLACK)
    batch = Batch(x, y)
    moved = (threat.project(point, batch) - point).abs().flatten(1).amax(1)
    snapped = (threat.discretize(point, batch) == point).flatten(1).all(1)
    return ok & snapped & (moved <= OUTSIDE * (threat.high - threat.low))


class Judgement(NamedTuple):
    """The judged `point (b, *d)`, the `prediction (b,)` and the `lead (b,)` of y there, and what
    was `allowed (b,)`."""

    point: Tensor
    prediction: Tensor
    lead: Tensor
    allowed: Tensor

    def broken(self, y: Tensor) -> Tensor:
        """Which points are allowed, and of another class `(b,)`."""
        return self.allowed & (self.prediction != y)

    def with_rows(self, rows: Tensor, other: Judgement) -> Judgement:
        """The verdict with `other` in the place of these rows, numbers `(r,)`."""
        return Judgement(*(t.index_copy(0, rows, u) for t, u in zip(self, other, strict=True)))


def judge(
    model: Model, threat: Threat, x_adv: object, x: Tensor, y: Tensor, *, who: str
) -> Judgement:
    """Recount what an attack returned for `x (b, *d)`; x takes the place of what is not allowed.

    Raises:
        ValueError: naming the attack `who`, if it did not return one float point a sample.
    """
    if not isinstance(x_adv, Tensor) or x_adv.shape != x.shape or not x_adv.is_floating_point():
        said = (
            f"{x_adv.dtype} of shape {tuple(x_adv.shape)}"
            if isinstance(x_adv, Tensor)
            else type(x_adv).__name__
        )
        raise ValueError(
            f"attack {who!r} returned {said} for inputs of shape {tuple(x.shape)}: "
            "it must return x_adv like x"
        )
    x_adv = x_adv.detach().to(x.device, torch.float32)
    allowed = feasible(threat, x_adv, x, y)
    point = torch.where(broadcast_rows(allowed, x), x_adv.clamp(threat.low, threat.high), x)
    z = logits(model, point)
    return Judgement(point, predicted_class(z), lead(z, y), allowed)
