"""Transport cost without a ball: any point of the box, at a cost that grows with the distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..batch import Batch
from ..component import require
from ..functional.geometry import norm, normalize
from ..runtime import distributed
from ..runtime.annotations import AnyReal
from .base import Threat, check_bounds

NORMS = (1, 2, math.inf)
INITS = ("noise", "zero")
DESCENTS = ("sign", "l2", "gradient")


class Transport(Threat):
    """Charge the adversary for distance instead of bounding it: WRM (p = power = 2) and ARMOR.
    c(x', x) = scale·‖x' − x‖_p^power on [low, high]^d.

    Arguments:
        scale: L > 0, the cost at distance 1.
        p: 1, 2 or inf.
        power: q ≥ 1.
        clip: project to the box; ARMOR's published form does not.
        init: where a random start lies: `"noise"`, x + N(0, noise²); `"zero"`, at x.
        noise: its standard deviation, in input units.
        descent: the geometry of a step: `"sign"`, size·sign(g) (ARMOR); `"l2"`, size·g/‖g‖₂;
            `"gradient"`, size·g (WRM).

    At x, where ‖·‖_p^1 has no gradient, the gradient of the cost is 0.

    Raises:
        ValueError: for an argument out of its range.

    Source: Sinha et al. 2018, alg. 1, and Birrell and Ebrahimi 2023. Differs: ARMOR maximizes
    ℓ/λ − c, we its multiple ℓ − λc.

    >>> x, y = torch.tensor([[0.0, 0.0]]), torch.tensor([0])
    >>> Transport(0.5).cost(torch.tensor([[0.6, 0.8]]), Batch(x, y))
    tensor([0.5000])
    """

    paper = "sinha2018certifying"

    def __init__(
        self,
        scale: float,
        *,
        p: AnyReal = 2,
        power: float = 2.0,
        low: float = 0.0,
        high: float = 1.0,
        clip: bool = True,
        init: str = "noise",
        noise: float = 0.001,
        descent: str = "sign",
    ) -> None:
        super().__init__()
        require(0 < scale < math.inf, "scale", scale, "a cost > 0 at distance 1")
        require(p in NORMS, "p", p, "1, 2 or inf")
        require(1 <= power < math.inf, "power", power, "a power ≥ 1 of the distance")
        check_bounds(low, high)
        require(init in INITS, "init", init, "one of " + ", ".join(INITS))
        require(noise >= 0, "noise", noise, "a standard deviation ≥ 0")
        require(descent in DESCENTS, "descent", descent, "one of " + ", ".join(DESCENTS))
        self.scale, self.p, self.power, self.clip = scale, p, power, clip
        self.low, self.high, self.init, self.noise = low, high, init, noise
        self.descent = descent

    def random_start(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        if self.init == "zero":
            return self.pack(batch)
        noise = self.noise * distributed.draw("normal", batch.x, generator)
        return self.project(batch.x + noise, batch)

    def step(self, z: Tensor, grad: Tensor, size: float, batch: Batch) -> Tensor:
        if self.descent == "sign":
            return z + size * grad.sign()
        return z + size * (normalize(grad, 2) if self.descent == "l2" else grad)

    def project(self, z: Tensor, batch: Batch) -> Tensor:
        return z.clamp(self.low, self.high) if self.clip else z

    def cost(self, z: Tensor, batch: Batch) -> Tensor:
        return self.scale * norm(z - batch.x, self.p) ** self.power

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return norm(x_adv - x, self.p)
