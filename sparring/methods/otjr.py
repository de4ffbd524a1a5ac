"""OTJR: transport the adversarial logits to the clean ones, and flatten the model that way."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..batch import Batch, Loss
from ..component import require
from ..functional.losses import cross_entropy
from ..functional.optimal_transport import SLICE_LAWS
from .base import Method, adversarial_pair
from .feature_transport import (
    logits_and_features,
    mean_squared_jacobian,
    mean_variance,
    sliced_transport,
)

UNITS = ("logit", "spread")
# Variance, in squared logits. Without a floor the term's slope grows as logits shrink: trainings
# from the initial net (2,000 rows of Fashion-MNIST, SGD of 0.05) overflowed, even with a ramp.
LEAST_VARIANCE = 1.0


class OTJR(Method):
    """Match the clouds of clean and adversarial logits, and penalize the Jacobian along the moves.
    ℓ = CE(f(x'), y'), R = sw·SW₂²(f(x'), f(x)) + jac·(d/b)·Σ_i ‖v_iᵀ J(x_i)‖².

    SW₂² is the squared sliced Wasserstein distance of the two clouds of logits over random slices,
    drawn in each step; v_i is the unit direction in which they move adversarial sample i, and
    J = ∂f/∂x at the clean one. First x runs, then x', each with its own batch statistics. A factor
    of 0 leaves its work out; without both terms, this is `AT`. Every sample has the same weight,
    unlabeled ones too.

    Arguments:
        sw, jac: λ_SW ≥ 0, per squared `unit`; λ_J ≥ 0, per squared logit and input unit.
        unit: of the distance: `"logit"`, as published; or `"spread"`, the root of the clean
            logits' mean variance over the (joint) batch, as a constant, and at least one logit. A
            λ_SW in spreads means the same for trained nets of small and of large logits.
        slices, law: number and distribution, as in `optimal_transport.random_slices`.
        layer: dotted name of the submodule whose flattened output `(b, d)` replaces the logits in
            both terms; default: the logits.
        jac_every: apply the Jacobian term every m-th step only, m times as strong.

    Raises:
        ValueError: for a negative factor, an unknown law or unit, or `slices` or `jac_every` below
            1; from `loss`, for an unknown layer, or a compiled model, which is not differentiated
            twice.

    Source: Le et al. 2024; loss and defaults from the authors' code (their λ_J counts no ½).
    Differs: uniform slices (theirs with `law="cube"`); a sample that does not move takes a random
    direction, where theirs is NaN.

    >>> OTJR(jac=0.002)
    OTJR(jac=0.002)
    """

    paper = "le2024otjr"
    shapes_gradients = True
    steps: Tensor

    def __init__(
        self,
        *,
        sw: float = 64.0,
        jac: float = 0.005,
        slices: int = 32,
        law: str = "sphere",
        layer: str | None = None,
        jac_every: int = 1,
        unit: str = "logit",
    ) -> None:
        super().__init__()
        require(sw >= 0, "sw", sw, "a weight ≥ 0")
        require(jac >= 0, "jac", jac, "a weight ≥ 0")
        require(slices >= 1, "slices", slices, "a number of slices ≥ 1")
        require(law in SLICE_LAWS, "law", law, "one of " + ", ".join(SLICE_LAWS))
        require(jac_every >= 1, "jac_every", jac_every, "a number of steps ≥ 1")
        require(unit in UNITS, "unit", unit, "one of " + ", ".join(UNITS))
        self.sw, self.jac, self.slices, self.law = sw, jac, slices, law
        self.layer, self.jac_every, self.unit = layer, jac_every, unit
        self.register_buffer("steps", torch.tensor(0))
        self._count: int | None = 0  # `steps` without a wait for its device; None: to be read
        self.register_load_state_dict_post_hook(self._forget_count)

    def _forget_count(self, *_: object) -> None:
        self._count = None

    @property
    def differentiates_twice(self) -> bool:
        return self.jac > 0

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        x_adv, y_adv = adversarial_pair(batch)
        if self._count is None:
            self._count = int(self.steps)
        flatten = self.jac > 0 and self._count % self.jac_every == 0
        if not (self.sw > 0 or flatten):
            return Loss(cross_entropy(model(x_adv), y_adv))
        x = batch.x.detach().requires_grad_(flatten)
        _, clean = logits_and_features(model, x, self.layer)
        logits, adversarial = logits_and_features(model, x_adv, self.layer)
        distance, v = sliced_transport(adversarial, clean, count=self.slices, law=self.law)
        terms = {"sw": distance.detach()}
        if self.unit == "spread":
            distance = distance / mean_variance(clean.detach()).clamp_min(LEAST_VARIANCE)
        penalty = self.sw * distance
        if flatten:
            jacobian = self.jac_every * mean_squared_jacobian(clean, x, v)
            penalty = penalty + self.jac * jacobian
            terms["jacobian"] = jacobian.detach()
        return Loss(cross_entropy(logits, y_adv), penalty=penalty, terms=terms)

    def update(self, model: nn.Module, batch: Batch) -> None:
        self.steps += 1
        self._count = None if self._count is None else self._count + 1
