"""Jacobian regularization along random directions, or along those of optimal transport."""

from __future__ import annotations

import torch
from torch import nn

from ..batch import Batch, Loss
from ..component import require
from ..functional.losses import cross_entropy
from ..functional.optimal_transport import SLICE_LAWS
from ..introspect import jacobian
from ..runtime import distributed
from .base import Method, adversarial_pair
from .feature_transport import logits_and_features, mean_squared_jacobian, sliced_transport


class JR(Method):
    """Penalize the Jacobian of the logits, estimated along random directions.
    ℓ = CE(f(x'), y'), R = jac·½·(d/(n·b))·Σ_ip ‖v_ipᵀ J(x'_i)‖² over random unit vectors v_ip. R is
    an unbiased estimate of jac·½·mean ‖J‖²_F. Without an attack x' = x: the published method. With
    one, it flattens the model at the adversarial points, in the same forward pass.

    Arguments:
        jac: λ ≥ 0, per squared logit and input unit; 0 leaves the work out.
        projections: n ≥ 1 random directions per sample; or −1 for the exact norm, by d backward
            passes.
        halve: apply Hoffman's ½; without it jac is in OTJR's units.
        layer: dotted name of the submodule whose flattened output replaces the logits in R;
            default: the logits.

    Raises:
        ValueError: for a negative factor, or projections that are neither ≥ 1 nor −1; from `loss`,
            as for `OTJR`.

    Source: Hoffman et al. 2019 and their code, facebookresearch/jacobian_regularizer.

    >>> JR(jac=0.1).config()
    {'jac': 0.1, 'projections': 1, 'halve': True, 'layer': None}
    """

    paper = "hoffman2019jacobian"
    shapes_gradients = True

    def __init__(
        self,
        *,
        jac: float = 0.01,
        projections: int = 1,
        halve: bool = True,
        layer: str | None = None,
    ) -> None:
        super().__init__()
        require(jac >= 0, "jac", jac, "a weight ≥ 0")
        allowed = "a number ≥ 1, or -1 for the exact norm"
        require(projections >= 1 or projections == -1, "projections", projections, allowed)
        self.jac, self.projections, self.halve, self.layer = jac, projections, halve, layer

    @property
    def differentiates_twice(self) -> bool:
        return self.jac > 0

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        x_adv, y_adv = adversarial_pair(batch)
        if self.jac == 0:
            return Loss(cross_entropy(model(x_adv), y_adv))
        x = x_adv.detach().requires_grad_()
        logits, outputs = logits_and_features(model, x, self.layer)
        if self.projections == -1:
            norms = jacobian.squared_jacobian_norm(outputs, x, create_graph=True)
            squared = norms.sum() / max(len(norms), 1)
        else:
            generator = distributed.generator(x.device)
            v = jacobian.random_directions(outputs.detach(), self.projections, generator=generator)
            squared = mean_squared_jacobian(outputs, x, v)
        penalty = self.jac * (0.5 if self.halve else 1.0) * squared
        terms = {"jacobian": squared.detach()}
        return Loss(cross_entropy(logits, y_adv), penalty=penalty, terms=terms)


class TransportJR(Method):
    """Train on clean inputs, with OTJR's Jacobian term as penalty.
    ℓ = CE(f(x), y), R = jac·(d/b)·Σ_i ‖v_iᵀ J(x_i)‖²: the adversary is used for the directions v_i
    only. Arguments and errors are those of `OTJR`.

    Source: `sw_jac` of Le et al. 2024's code.

    >>> TransportJR()
    TransportJR()
    """

    paper = "le2024otjr"
    shapes_gradients = True

    def __init__(
        self, *, jac: float = 0.005, slices: int = 32, law: str = "sphere", layer: str | None = None
    ) -> None:
        super().__init__()
        require(jac >= 0, "jac", jac, "a weight ≥ 0")
        require(slices >= 1, "slices", slices, "a number of slices ≥ 1")
        require(law in SLICE_LAWS, "law", law, "one of " + ", ".join(SLICE_LAWS))
        self.jac, self.slices, self.law, self.layer = jac, slices, law, layer

    @property
    def differentiates_twice(self) -> bool:
        return self.jac > 0

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        x_adv, _ = adversarial_pair(batch)
        if self.jac == 0:
            return Loss(cross_entropy(model(batch.x), batch.y))
        x = batch.x.detach().requires_grad_()
        logits, clean = logits_and_features(model, x, self.layer)
        with torch.no_grad():
            _, adversarial = logits_and_features(model, x_adv, self.layer)
            _, v = sliced_transport(adversarial, clean, count=self.slices, law=self.law)
        squared = mean_squared_jacobian(clean, x, v)
        terms = {"jacobian": squared.detach()}
        return Loss(cross_entropy(logits, batch.y), penalty=self.jac * squared, terms=terms)
