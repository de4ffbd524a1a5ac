"""Run momentum iterative FGSM: step along the running mean of gradient directions."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from ..component import did_you_mean, require, require_at_least
from ..functional import losses
from ..functional.geometry import broadcast_scale, norm
from ..threats.base import Threat
from .base import ActiveSet, Execution, Search


class MIFGSM(Search):
    """Climb along the momentum of normalised gradients.
    g ← decay·g + ∇ℓ/‖∇ℓ‖₁, z ← project(step(z, g)). The momentum carries a search past poor maxima;
    its points transfer better between models.

    Arguments:
        steps, loss: gradient steps, ≥ 1, and what they climb: `"ce"`, `"margin"` or `"dlr"`.
        size: length of a step in input units; default: None, eps/steps.
        decay: of the momentum, ≥ 0; 0 is BIM.
        targeted: y is the class to reach.
        precision, channels_last, seed: as in `Execution`; this attack draws nothing.

    Source: Dong et al. 2018, alg. 1. Differs: a broken sample leaves at once, and any other
    is returned at its highest loss, not at the last step.

    >>> import torch
    >>> from sparring.threats import Linf
    >>> model = lambda x: torch.stack([x.sum(1), -x.sum(1)], 1)
    >>> MIFGSM(Linf(0.1))(model, torch.full((1, 2), 0.5), torch.tensor([0]))
    tensor([[0.4000, 0.4000]])
    """

    paper = "dong2018boosting"

    def __init__(
        self,
        threat: Threat,
        *,
        steps: int = 10,
        size: float | None = None,
        decay: float = 1.0,
        loss: str = "ce",
        targeted: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        require_at_least(1, steps=steps)
        require(size is None or size > 0, "size", size, "a length > 0, or None for eps/steps")
        require(decay >= 0, "decay", decay, "a factor ≥ 0")
        if loss not in losses.BY_NAME:
            raise ValueError(did_you_mean("loss", loss, losses.BY_NAME))
        self.threat, self.steps, self.size, self.decay, self.loss = threat, steps, size, decay, loss
        self.targeted = targeted

    def gain(self, logits: Tensor, y: Tensor) -> Tensor:
        """Compute what the steps climb `(a,)`."""
        return losses.BY_NAME[self.loss](logits, y) * (-1 if self.targeted else 1)

    def search(self, active: ActiveSet, round_index: int) -> None:
        step_size = self.size or self.threat.reach / self.steps
        z, momentum = active.x, 0 * active.x
        for _ in range(self.steps):
            y = active.y
            value, grad, logits = active.value_and_grad(lambda out, y=y: self.gain(out, y), z)
            keep = active.record(z, logits, value)
            if len(active) == 0:
                return
            if keep is not None:
                z, grad, momentum = z[keep], grad[keep], momentum[keep]
            # unit length in L1: gradients of cross-entropy shrink or grow by orders of magnitude
            # on the way, and the mean is to be one of directions
            unit = grad / broadcast_scale(norm(grad, 1).clamp_min(1e-30), grad)
            momentum = self.decay * momentum + unit
            z = self.threat.step(z, momentum, step_size, active.batch)
            z = self.threat.project(z, active.batch)
        logits = active.logits_no_grad(z)
        active.record(z, logits, self.gain(logits, active.y))
