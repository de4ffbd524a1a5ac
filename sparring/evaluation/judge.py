"""Judge points outside the attack: does the threat allow them, and what is the prediction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, Model
from ..functional import losses
from ..functional.geometry import RELATIVE_SLACK, SLACK, box_slack, broadcast_rows
from ..introspect.predict import has_class, logits, predicted_class
from ..threats.base import Threat


def finite_margin(z: Tensor, y: Tensor) -> Tensor:
    """Compute max_{k≠y} z_k − z_y `(b,)`, positive where it is wrong; NaN where logits name no
    class.

    >>> finite_margin(torch.tensor([[1.0, 3.0, 0.5]]), torch.tensor([1]))
    tensor([-2.])
    """
    return torch.where(has_class(z), losses.margin(z, y), torch.nan)


def feasible(threat: Threat, x_adv: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return which points the threat allows `(b,)`: finite, in the box, within eps, and unmoved by
    projecting and discretizing.

    d(x', x) ≤ eps·(1 + 1e-5) + s, low − s ≤ x' ≤ high + s, discretize(x') = x' and
    ‖project(x') − x'‖_∞ ≤ max(1e-5·(high − low), s), where s = 1e-6·max(1, |low|, |high|); in L0,
    whose d is a count, s = 1e-6 beside eps.

    >>> from sparring.threats import Linf
    >>> x = torch.full((3, 1), 0.5)
    >>> feasible(Linf(0.1), torch.tensor([[0.6], [0.7], [torch.nan]]), x, torch.zeros(3, dtype=int))
    tensor([ True, False, False])
    """
    if len(x) == 0:
        return torch.ones(0, dtype=torch.bool, device=x.device)
    slack = box_slack(threat.low, threat.high)
    ok = torch.isfinite(x_adv).flatten(1).all(1)
    # Distances and projections of NaN would spoil the batch: such rows are judged at x.
    point = torch.where(broadcast_rows(ok, x), x_adv, x)
    ok = ok & ((point >= threat.low - slack) & (point <= threat.high + slack)).flatten(1).all(1)
    if threat.eps is not None:
        beside = SLACK if getattr(threat, "p", None) == 0 or threat.binary else slack
        ok = ok & (threat.distance(point, x) <= threat.eps * (1 + RELATIVE_SLACK) + beside)
    batch = Batch(x, y)
    moved = (threat.project(point, batch) - point).abs().flatten(1).amax(1)
    # Exactly equal: bits are 0 or 1, with no rounding to forgive.
    discrete = (threat.discretize(point, batch) == point).flatten(1).all(1)
    # a box far from 0 may be narrower than the rounding of its numbers times 1e5
    return ok & discrete & (moved <= max(RELATIVE_SLACK * (threat.high - threat.low), slack))


def two_class_score(model: Model, x: Tensor, classes: int | None) -> dict[str, np.ndarray]:
    """Return the logit of class 1 minus that of class 0, `score (b,)`, if there are two classes."""
    if classes != 2:
        return {}
    z = logits(model, x).double()
    return {"score": (z[:, 1] - z[:, 0]).cpu().numpy()}


class Judgement(NamedTuple):
    """Hold the judged `point (b, *d)`, the `pred (b,)` and `margin (b,)` there, and whether the
    attack's point was `allowed (b,)`."""

    point: Tensor
    pred: Tensor
    margin: Tensor
    allowed: Tensor

    def is_adversarial(self, y: Tensor) -> Tensor:
        """Return which points are allowed and misclassified `(b,)`."""
        return self.allowed & (self.pred != y)

    def with_rows(self, rows: Tensor, other: Judgement) -> Judgement:
        """Return the judgement with row numbers `rows (r,)` replaced by those of `other`."""
        return Judgement(*(t.index_copy(0, rows, u) for t, u in zip(self, other, strict=True)))


def judge(
    model: Model, threat: Threat, x_adv: object, x: Tensor, y: Tensor, *, name: str
) -> Judgement:
    """Recount the points an attack returned for `x (b, *d)`; x replaces points not allowed.

    Raises:
        ValueError: naming the attack `name`, if it did not return one float point per sample.
    """
    if not isinstance(x_adv, Tensor) or x_adv.shape != x.shape or not x_adv.is_floating_point():
        kind = type(x_adv).__name__
        if isinstance(x_adv, Tensor):
            kind = f"{x_adv.dtype} of shape {tuple(x_adv.shape)}"
        raise ValueError(
            f"attack {name!r} returned {kind} for inputs of shape {tuple(x.shape)}: "
            "it must return floats of that shape"
        )
    # Float32 and eval mode whatever the attack used: a point that breaks the model only by the
    # rounding of bfloat16 is no error of the model.
    x_adv = x_adv.detach().to(x.device, torch.float32)
    allowed = feasible(threat, x_adv, x, y)
    point = torch.where(broadcast_rows(allowed, x), x_adv.clamp(threat.low, threat.high), x)
    z = logits(model, point)
    return Judgement(point, predicted_class(z), finite_margin(z, y), allowed)
