"""JSMA: an attack by saliency maps, which changes the location that gains most, then the next."""

from __future__ import annotations

from typing import Unpack

import torch

from ..component import require_at_least
from ..functional.geometry import flatten_pixels, topk_mask
from ..functional.losses import margin
from ..threats.base import Threat
from .base import ActiveSet, Execution, Search


class JSMA(Search):
    """Move the location of largest saliency s to the edge of the box, until eps have changed.
    s = Σ_c |g|·room over the channels of an unchanged location is its first-order gain: g is the
    gradient of the margin max_{k≠y} z_k − z_y, room the distance along g to the edge of the box. A
    location is a pixel with all its channels in images `(b, c, h, w)`, else one coordinate.

    Arguments:
        at_once: locations changed per gradient, ≥ 1; eps/at_once gradients in all.
        targeted: y is the class to reach.

    Raises:
        ValueError: for a value that its entry above does not allow.

    Source: Papernot et al. 2016, alg. 2 and sec. IV-B. Differs: one location at a time; the
    paper scores pairs by −(Σ ∂z_y)(Σ_{k≠y} ∂z_k) and takes no pair with a wrong sign. Up or down;
    the paper only adds (or only removes) theta. The margin, so that no target is needed.

    >>> from sparring.threats import L0
    >>> model = lambda x: torch.stack([x.sum(1), -x.sum(1)], 1)
    >>> JSMA(L0(1))(model, torch.tensor([[0.5, 0.75]]), torch.tensor([0]))
    tensor([[0.5000, 0.0000]])
    """

    paper = "papernot2016jsma"
    norms = (0,)

    def __init__(
        self,
        threat: Threat,
        *,
        at_once: int = 1,
        targeted: bool = False,
        **execution: Unpack[Execution],
    ) -> None:
        super().__init__(**execution)
        self.threat = self.require_ball(threat)
        require_at_least(1, at_once=at_once)
        self.at_once, self.targeted = at_once, targeted

    def search(self, active: ActiveSet, round_index: int) -> None:
        z, sign = active.x, -1 if self.targeted else 1
        low, high = self.threat.low, self.threat.high
        left = min(int(self.threat.eps or 0), flatten_pixels(z[:1]).shape[2])
        if left == 0:
            return
        while left:
            y = active.y
            value, grad, logits = active.value_and_grad(lambda out, y=y: sign * margin(out, y), z)
            keep = active.record(z, logits, value)
            if len(active) == 0:
                return
            if keep is not None:
                z, grad = z[keep], grad[keep]
            edge = torch.where(grad > 0, high, torch.where(grad < 0, low, z))
            gain = flatten_pixels(grad * (edge - z)).sum(1)
            changed = (flatten_pixels(z) != flatten_pixels(active.x)).any(1)
            gain = gain.masked_fill(changed, 0.0)
            chosen = topk_mask(gain, min(self.at_once, left)) & (gain > 0)
            points = torch.where(chosen[:, None], flatten_pixels(edge), flatten_pixels(z))
            z = points.reshape_as(z)
            left -= min(self.at_once, left)
        logits = active.logits_no_grad(z)
        active.record(z, logits, sign * margin(logits, active.y))
