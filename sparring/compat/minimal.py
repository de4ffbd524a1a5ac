"""The attacks of torchattacks that look for the nearest adversarial point."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import attacks
from ..component import require, require_at_least
from ..threats import L0, L1, L2
from .base import SearchAttack
from .gradients import BOTH, ball

ALL_CLASSES = 1 << 20  # DeepFool takes at most as many as the model has


class CW(SearchAttack):
    """Minimize the L2 distance plus c times the margin, with one fixed c; any distance counts.

    Differs: a sample stops by its own loss, not by the sum over the batch, and an adversarial point
    has at least the margin kappa.
    """

    one_target = True

    def __init__(
        self, model: Any, c: float = 1, kappa: float = 0, steps: int = 50, lr: float = 0.01
    ) -> None:
        super().__init__("CW", model)
        self.c, self.kappa, self.steps, self.lr = c, kappa, steps, lr
        self.supported_mode = [*BOTH]

    def native(self) -> attacks.CW:
        run: dict[str, Any] = {
            "steps": self.steps,
            "size": self.lr,
            "confidence": self.kappa,
            "c": self.c,
        }
        return attacks.CW(L2(1.0), search_steps=1, **run)

    def search(self, attack: Any, model: Any, x: Tensor, y: Tensor) -> Tensor:
        return attack.distances(model, x, y)[0]


class DeepFool(SearchAttack):
    """Step onto the nearest linearised boundary; any distance counts.

    Differs: all samples run at once, and steps stay in the box: as `attacks.DeepFool`.
    """

    def __init__(self, model: Any, steps: int = 50, overshoot: float = 0.02) -> None:
        super().__init__("DeepFool", model)
        self.steps, self.overshoot = steps, overshoot

    def native(self) -> attacks.DeepFool:
        run: dict[str, Any] = {"steps": self.steps, "overshoot": self.overshoot}
        return attacks.DeepFool(L2(1.0), classes=ALL_CLASSES, **run)

    def search(self, attack: Any, model: Any, x: Tensor, y: Tensor) -> Tensor:
        return attack.walk(model, x, y)[0]


class EADL1(SearchAttack):
    """Minimize an elastic net, and return the point nearest in L1; any distance counts.

    Differs: as `attacks.EAD`.
    """

    one_target = True

    def __init__(
        self,
        model: Any,
        kappa: float = 0,
        lr: float = 0.01,
        binary_search_steps: int = 9,
        max_iterations: int = 100,
        abort_early: bool = True,
        initial_const: float = 0.001,
        beta: float = 0.001,
    ) -> None:
        super().__init__("EADL1", model)
        self.kappa, self.lr, self.binary_search_steps = kappa, lr, binary_search_steps
        self.max_iterations, self.abort_early = max_iterations, abort_early
        self.initial_const, self.beta, self.supported_mode = initial_const, beta, [*BOTH]

    def native(self) -> attacks.EAD:
        run: dict[str, Any] = {
            "steps": self.max_iterations,
            "search_steps": self.binary_search_steps,
        }
        run |= {"size": self.lr, "beta": self.beta, "c": self.initial_const}
        return attacks.EAD(L1(1.0), confidence=self.kappa, abort=self.abort_early, **run)

    def search(self, attack: Any, model: Any, x: Tensor, y: Tensor) -> Tensor:
        return attack.distances(model, x, y)[0]


class JSMA(SearchAttack):
    """Move the pixels of largest saliency to the edge of the box, at most a share gamma of them.

    Differs: without a target, away from the label; theirs aims at label + 1. Pixels move up or
    down, so theta must be 1, the width of the box. A pixel moves with all its channels.
    """

    def __init__(self, model: Any, theta: float = 1.0, gamma: float = 0.1) -> None:
        super().__init__("JSMA", model)
        require(theta == 1, "theta", theta, "1: ours moves a pixel to the edge of the box")
        require(0 < gamma <= 1, "gamma", gamma, "a share of the pixels in (0, 1]")
        self.theta, self.gamma, self.supported_mode = theta, gamma, [*BOTH]
        self._pixels = 1

    def native(self) -> attacks.JSMA:
        return attacks.JSMA(L0(self._pixels), targeted=self.targeted)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        channels = images.shape[1] if images.ndim == 4 else 1
        self._pixels = max(int(self.gamma * images[0].numel() / channels), 1)
        return super().forward(images, labels)


class FAB(SearchAttack):
    """Step along the boundary towards the image; returns points within eps only.

    10 steps by default, where the paper takes 100. Differs: as `attacks.FAB`.
    """

    one_target = True

    def __init__(
        self,
        model: Any,
        norm: str = "Linf",
        eps: float | None = 8 / 255,
        steps: int = 10,
        n_restarts: int = 1,
        alpha_max: float = 0.1,
        eta: float = 1.05,
        beta: float = 0.9,
        verbose: bool = False,
        seed: float | None = 0,
        multi_targeted: bool = False,
        n_classes: int = 10,
    ) -> None:
        super().__init__("FAB", model)
        require_at_least(2, n_classes=n_classes)
        defaults = {"Linf": 0.3, "L2": 1.0, "L1": 5.0}  # theirs
        self.norm, self.eps = norm, defaults.get(norm, 0.3) if eps is None else eps
        self.steps, self.n_restarts, self.alpha_max = steps, n_restarts, alpha_max
        self.eta, self.beta, self.verbose, self.seed = eta, beta, verbose, seed
        self.multi_targeted, self.n_target_classes = multi_targeted, n_classes - 1
        self.supported_mode = [*BOTH]

    def native(self) -> attacks.FAB:
        run: dict[str, Any] = {
            "steps": self.steps,
            "restarts": self.n_restarts,
            "alpha_max": self.alpha_max,
        }
        targets = self.n_target_classes if self.multi_targeted else 0
        threat = ball(self.norm, self.eps)
        return attacks.FAB(threat, targets=targets, eta=self.eta, beta=self.beta, **run)
