"""MART: weigh stability most where the clean prediction is already unsure."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..batch import Batch, Loss
from ..component import require
from ..functional.losses import (
    boosted_ce,
    cross_entropy,
    hard_labels,
    kl,
    misclassification_weight,
)
from .base import Method, SampleGain, adversarial_pair

INNER = ("ce", "self")


def mart(clean: Tensor, adversarial: Tensor, y: Tensor, beta: float) -> Tensor:
    """Return BCE(p', y) + beta·KL(p ‖ p')·(1 − p_y) per sample `(b,)`.

    Gradients flow through every factor, the weight 1 − p_y too.

    Arguments:
        clean, adversarial: logits `(b, k)` on x and x'; p and p' are their softmax.
        y: `(b,)` integers, where a sample of label -1 counts 0; or `(b, k)` probabilities, which
            the cross-entropy in BCE takes; the other terms take their likeliest class.

    Source: Wang et al. 2020, eq. 11.

    >>> clean, adversarial = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[2.0, 1.0, 0.0]])
    >>> mart(clean, adversarial, torch.tensor([0]), 5.0)
    tensor([2.2763])
    """
    weight = misclassification_weight(clean, y)
    return boosted_ce(adversarial, y) + beta * kl(clean, adversarial) * weight


def mart_compat(clean: Tensor, adversarial: Tensor, y: Tensor, beta: float) -> Tensor:
    """Return the authors' form of `mart`, whose constants cap its margin term at 9.21.

    Their constant inside log p' bounds it below by −27.6.

    Source: YisenWang/MART, mart.py. Differs: log p is clamped; their gradients are NaN once p
    underflows to 0.
    """
    p, q = clean.softmax(1), adversarial.softmax(1)
    hard = hard_labels(y)
    top = q.topk(2, dim=1).indices
    other = torch.where(top[:, 0] == hard, top[:, 1], top[:, 0])
    far = -torch.log(1.0001 - q.gather(1, other[:, None])[:, 0] + 1e-12)
    p_y = p.gather(1, hard.clamp_min(0)[:, None])[:, 0]
    moved = (p * (p.clamp_min(1e-38).log() - torch.log(q + 1e-12))).sum(1)
    loss = cross_entropy(adversarial, y) + far + beta * moved * (1.0000001 - p_y)
    return torch.where(hard >= 0, loss, 0.0)


class MART(Method):
    """Train on adversarial inputs, with a KL term that weighs misclassified samples more.
    ℓ = −log p'_y − log(1 − max_{k≠y} p'_k) + beta·KL(p ‖ p')·(1 − p_y).

    Arguments:
        beta: weight of the misclassification-aware term (λ in the paper), ≥ 0.
        inner: the adversary's gain: `"ce"` as published, or `"self"`, this loss itself.
        compat: use the authors' form with its additive constants instead of the exact one.

    Source: Wang et al. 2020, eq. 11. Differs: exact log-space form; theirs with `compat=True`.

    >>> MART(beta=6.0)
    MART(beta=6.0)
    """

    paper = "wang2020mart"

    def __init__(self, *, beta: float = 5.0, inner: str = "ce", compat: bool = False) -> None:
        super().__init__()
        require(beta >= 0, "beta", beta, "a weight ≥ 0")
        require(inner in INNER, "inner", inner, "one of " + ", ".join(INNER))
        self.beta, self.inner, self.compat = beta, inner, compat

    def _per_sample(self, clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
        return (mart_compat if self.compat else mart)(clean, adversarial, y, self.beta)

    def gain(self, model: nn.Module, batch: Batch) -> SampleGain:
        if self.inner == "ce":
            return super().gain(model, batch)
        with torch.no_grad():
            clean = model(batch.x)
        return lambda x_adv, y_adv: self._per_sample(clean, model(x_adv), batch.y)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        x_adv, _ = adversarial_pair(batch)
        clean, adversarial = model(batch.x), model(x_adv)
        terms = {
            "boosted_ce": boosted_ce(adversarial, batch.y).mean().detach(),
            "weight": misclassification_weight(clean, batch.y).mean().detach(),
        }
        return Loss(self._per_sample(clean, adversarial, batch.y), terms=terms)
