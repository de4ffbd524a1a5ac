"""A saliency map attack: changes the location that gains most, then the next."""

from __future__ import annotations

from typing import Unpack

import torch

from ..component import require
from ..functional.geometry import highest, locations
from ..functional.losses import margin
from ..threats.base import Threat
from .base import ActiveSet, Execution, Search


class JSMA(Search):
    """Again and again: the untouched location of largest saliency goes to the edge of the box.

    s = Σ_c |g|·room over the channels of a location, g the gradient of the margin max_{k≠y} z_k −
    z_y, room the way along g to the box's edge: the first-order gain. It ends when eps locations
    are spent. A location is a pixel with all its channels in images `(b, c, h, w)`, else one
    coordinate.

    Arguments:
        threat: an L0 ball.
        at_once: locations that one gradient changes, ≥ 1; eps/at_once gradients in all.
        targeted: y is the class to reach.
        precision, channels_last: how the model runs while searching.
        seed: of its own generator; nothing is drawn.

    Raises:
        ValueError: for a value outside what is said above.

    Source: Papernot et al. 2016, alg. 2 and sec. IV-B. Differs: one location at a time, where the
    paper scores pairs by −(Σ ∂z_y)(Σ_{k≠y} ∂z_k) and takes no pair with a wrong sign; up or down,
    where the paper only adds (or only removes) theta; the margin, so that it needs no target.

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
        require(at_once >= 1, "at_once", at_once, "an integer ≥ 1")
        self.at_once, self.targeted = at_once, targeted

    def search(self, active: ActiveSet, turn: int) -> None:
        z, sign = active.x, -1 if self.targeted else 1
        low, high = self.threat.low, self.threat.high
        left = min(int(self.threat.eps or 0), locations(z[:1]).shape[2])
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
            gain = locations(grad * (edge - z)).sum(1)
            gain = gain.masked_fill((locations(z) != locations(active.x)).any(1), 0.0)
            chosen = highest(gain, min(self.at_once, left)) & (gain > 0)
            z = torch.where(chosen.unsqueeze(1), locations(edge), locations(z)).reshape(z.shape)
            left -= min(self.at_once, left)
        logits = active.logits_no_grad(z)
        active.record(z, logits, sign * margin(logits, active.y))
