"""The worst distribution in a divergence ball, whose radius re-weighting and transport share."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..component import require
from ..runtime import distributed
from . import worst_case
from .base import Risk

MODES = ("exact", "learned")
RESPONSE = 2.0  # how cost falls with the price while transport is fixed: as price^−2, as for ‖δ‖²
REACH = 2.0  # a price moves by no more than this factor a batch
MOST = 1e8  # of a price
BETAS = (0.9, 0.999)  # Adam's


class Divergence(Risk):
    """ρ(u) = sup_Q {E_Q[loss] − κ·D^c(Q) : D^c(Q) ≤ radius}, D^c = D(η‖P) + transport to Q.

    A leaf names the family of worst measures of its D. The gradient of ρ in the losses is the worst
    weights w (Danskin), in the costs −λ·w.
    """

    step: Tensor

    def __init__(
        self, *, radius: float, floor: float, mode: str, initial: float, lr: float
    ) -> None:
        super().__init__()
        known = 0 <= radius < math.inf
        require(known, "radius", radius, "a number ≥ 0, in nats")
        require(0 <= floor < math.inf, "floor", floor, "a temperature ≥ 0")
        require(mode in MODES, "mode", mode, "one of " + ", ".join(MODES))
        require(0 < initial < math.inf, "initial", initial, "a price > 0")
        require(lr > 0, "lr", lr, "a rate > 0")
        self.radius, self.floor, self.mode = radius, floor, mode
        self.initial, self.lr = initial, lr
        self.register_buffer("multiplier", torch.tensor(float(max(initial, floor))))
        self.register_buffer("step", torch.zeros(3))  # Adam's count and moments of λ
        self._slope: Tensor | None = None

    def family(self, v: Tensor, p: Tensor, t: Tensor) -> worst_case.Worst:
        """The worst measures at t."""
        raise NotImplementedError

    def forward(self, loss: Tensor, cost: Tensor, batch: Batch) -> Tensor:
        u, c, base = (distributed.gather(t) for t in (loss, cost, batch.weight))
        wide = torch.float32 if u.device.type == "mps" else torch.float64
        worst = self._solve(u.detach().to(wide), c.detach().to(wide), base.to(wide) / base.sum())
        w, s = worst.w, torch.as_tensor(self.multiplier, dtype=wide, device=u.device)
        spent = (w * c.detach().to(wide)).sum() + worst.divergence
        slack = s * (self.radius - spent) - self.floor * self.radius
        self._note(worst, w, c.detach().to(wide), spent, base)
        return (w.to(u.dtype) * (u - (s.to(u.dtype) * (c - c.detach())))).sum() + slack.to(u.dtype)

    @torch.no_grad()
    def _solve(self, u: Tensor, c: Tensor, p: Tensor) -> worst_case.Worst:
        """The worst measure, and the price that goes with it."""
        price = self.multiplier.to(u)  # type: ignore[union-attr]
        v, moved = u - price * c, (c > 0).any()

        def allowed(worst: worst_case.Worst) -> Tensor:
            if self.mode == "learned":
                return worst.s >= price
            paid = (worst.w * c).sum(-1) * (price / worst.s).clamp_max(1e6).pow(RESPONSE)
            return (worst.divergence + paid <= self.radius) & (worst.s >= self.floor)

        worst = worst_case.search(self.family, v, p, allowed)
        if self.mode == "exact":
            near = worst.s.clamp(price / REACH, (price * REACH).clamp_max(MOST))
            now = torch.where(moved, near, worst.s).clamp_min(self.floor)
            self.multiplier = now.to(self.multiplier.dtype)  # type: ignore[union-attr]
        return worst

    def _note(
        self, worst: worst_case.Worst, w: Tensor, c: Tensor, spent: Tensor, base: Tensor
    ) -> None:
        n = (base > 0).sum()
        self._slope = self.radius - spent
        self.notes = {
            "lambda": torch.as_tensor(self.multiplier).detach().clone(),
            "divergence": worst.divergence,
            "transport": (w * c).sum(),
            "max_weight": n * w.amax(),
            "ess": 1 / (n * w.square().sum()),
            "active": (spent >= 0.99 * self.radius).to(w.dtype),
        }

    @torch.no_grad()
    def update(self, model: nn.Module, batch: Batch) -> None:
        """In learned mode, a step of Adam on λ by the last batch's slope radius − (E_w[c] + D)."""
        if self.mode != "learned" or self._slope is None:
            return
        count, mean, power = self.step.unbind()
        slope = self._slope.to(self.step)
        count, mean = count + 1, BETAS[0] * mean + (1 - BETAS[0]) * slope
        power = BETAS[1] * power + (1 - BETAS[1]) * slope.square()
        self.step = torch.stack([count, mean, power])
        scale = (power / (1 - BETAS[1] ** count)).sqrt() + 1e-8
        moved = self.multiplier - self.lr * mean / (1 - BETAS[0] ** count) / scale
        least = max(self.floor, 1e-6)
        self.multiplier = moved.clamp_min(least).to(self.multiplier)  # type: ignore[arg-type]


class KL(Divergence):
    """The Kullback-Leibler ball: inf_λ λ·radius + λ·log mean exp(loss/λ − cost); w = softmax.

    Arguments:
        radius: of the ball, ≥ 0, in nats: 0 is the mean, log b and more the max of a batch of b.
        floor: κ ≥ 0: the temperature never falls below it.
        mode: `"exact"` solves λ for each batch; `"learned"` takes a step of Adam on it after each.
        initial: λ to begin with.
        lr: of Adam in learned mode.

    `multiplier` is the λ of the last batch, which the next inner problem reads. Where transport
    costs, exact mode moves it by a factor of 2 a batch at most, and takes cost to fall as λ^−2
    meanwhile: where λ stands still, that does not matter.

    Raises:
        ValueError: for a value outside of what is said above.

    Source: Birrell and Ebrahimi 2023, ARMOR_KL. Differs: λ is solved, not learned, by default.

    >>> batch = Batch(torch.zeros(2, 1), torch.zeros(2, dtype=int))
    >>> risk = KL(radius=0.1)
    >>> risk(torch.tensor([1.0, 3.0]), torch.zeros(2), batch).round(decimals=3)
    tensor(2.4400)
    """

    paper = "birrell2023armor"

    def __init__(
        self,
        *,
        radius: float = 0.1,
        floor: float = 0.0,
        mode: str = "exact",
        initial: float = 1.0,
        lr: float = 0.001,
    ) -> None:
        super().__init__(radius=radius, floor=floor, mode=mode, initial=initial, lr=lr)

    def family(self, v: Tensor, p: Tensor, t: Tensor) -> worst_case.Worst:
        return worst_case.kl(v, p, t)


class Alpha(Divergence):
    """The ball of the α-divergence, f(r) = (r^α − 1)/(α(α − 1)): small losses get no weight at all.

    Arguments:
        alpha: α > 1; 2 is χ²/2, near 1 it is KL.
        radius, floor, mode, initial, lr: as for `KL`.

    Source: Birrell and Ebrahimi 2023, ARMOR_α. Differs: ρ is solved in either mode, so the weights
    sum to 1.

    >>> batch = Batch(torch.zeros(2, 1), torch.zeros(2, dtype=int))
    >>> risk = Alpha(alpha=2.0, radius=0.125)
    >>> risk(torch.tensor([1.0, 3.0]), torch.zeros(2), batch).round(decimals=3)
    tensor(2.5000)
    """

    paper = "birrell2023armor"

    def __init__(
        self,
        *,
        alpha: float = 2.0,
        radius: float = 0.1,
        floor: float = 0.0,
        mode: str = "exact",
        initial: float = 1.0,
        lr: float = 0.001,
    ) -> None:
        super().__init__(radius=radius, floor=floor, mode=mode, initial=initial, lr=lr)
        require(1 < alpha < math.inf, "alpha", alpha, "a number > 1")
        self.alpha = alpha

    def family(self, v: Tensor, p: Tensor, t: Tensor) -> worst_case.Worst:
        return worst_case.alpha(v, p, t, self.alpha)


class Renyi(Divergence):
    """The ball of the Rényi divergence R_α, reversed by default, as the authors' code has it.

    Arguments:
        alpha: α > 1.
        reversed: R_α(P‖Q); else R_α(Q‖P), whose ball is that of `Alpha` with another radius.
        radius, floor, mode, initial, lr: as for `KL`.

    Source: Birrell and Ebrahimi, code of 2025, ARMOR_Ren.

    >>> batch = Batch(torch.zeros(2, 1), torch.zeros(2, dtype=int))
    >>> risk = Renyi(alpha=2.0, radius=0.1)
    >>> risk(torch.tensor([1.0, 3.0]), torch.zeros(2), batch).round(decimals=3)
    tensor(2.4260)
    """

    paper = "birrell2023armor"

    def __init__(
        self,
        *,
        alpha: float = 2.0,
        reversed: bool = True,
        radius: float = 0.1,
        floor: float = 0.0,
        mode: str = "exact",
        initial: float = 1.0,
        lr: float = 0.001,
    ) -> None:
        super().__init__(radius=radius, floor=floor, mode=mode, initial=initial, lr=lr)
        require(1 < alpha < math.inf, "alpha", alpha, "a number > 1")
        self.alpha, self.reversed = alpha, reversed

    def family(self, v: Tensor, p: Tensor, t: Tensor) -> worst_case.Worst:
        make = worst_case.reversed_renyi if self.reversed else worst_case.renyi
        return functools.partial(make, a=self.alpha)(v, p, t)
