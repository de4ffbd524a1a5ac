"""The worst distribution in a divergence ball, whose radius re-weighting and transport share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..batch import Batch
from ..component import require
from ..runtime import distributed
from . import worst_case
from .base import Risk

MODES = ("exact", "learned")
COST_EXPONENT = 2.0  # cost is taken to fall as λ^−2 while the attack is fixed, as for c = ‖δ‖²
MAX_FACTOR = 2.0  # by which λ moves per batch
MAX_MULTIPLIER = 1e8
ADAM_BETAS = (0.9, 0.999)


class Divergence(Risk):
    """Take the worst expected loss over the measures in a ball around the data's.
    ρ(u) = sup_Q {E_Q[loss] − κ·D^c(Q) : D^c(Q) ≤ radius}, D^c = D(η‖P) + transport to Q. A leaf
    sets the family of worst measures of its D. The gradient of ρ in the losses is the worst weights
    w (Danskin), in the costs −λ·w. κ is `min_multiplier`."""

    step: Tensor

    def __init__(
        self,
        *,
        radius: float,
        min_multiplier: float,
        mode: str,
        initial_multiplier: float,
        lr: float,
    ) -> None:
        super().__init__()
        known = 0 <= radius < math.inf
        require(known, "radius", radius, "a number ≥ 0, in nats")
        known = 0 <= min_multiplier < math.inf
        require(known, "min_multiplier", min_multiplier, "a multiplier ≥ 0")
        require(mode in MODES, "mode", mode, "one of " + ", ".join(MODES))
        known = 0 < initial_multiplier < math.inf
        require(known, "initial_multiplier", initial_multiplier, "a multiplier > 0")
        require(lr > 0, "lr", lr, "a rate > 0")
        self.radius, self.min_multiplier, self.mode = radius, min_multiplier, mode
        self.initial_multiplier, self.lr = initial_multiplier, lr
        start = torch.tensor(float(max(initial_multiplier, min_multiplier)))
        self.register_buffer("multiplier", start)
        self.register_buffer("step", torch.zeros(3))  # Adam's count and moments of λ
        self._slope: Tensor | None = None

    def worst_at(self, v: Tensor, p: Tensor, t: Tensor) -> worst_case.WorstCase:
        """Return the worst measures for values v and base weights p `(n,)` at t `(m,)`."""
        raise NotImplementedError

    def forward(self, loss: Tensor, cost: Tensor, batch: Batch) -> Tensor:
        u, c, base = (distributed.gather(t) for t in (loss, cost, batch.weight))
        dtype = torch.float32 if u.device.type == "mps" else torch.float64
        worst = self._solve(u.detach().to(dtype), c.detach().to(dtype), base.to(dtype) / base.sum())
        w = worst.w
        multiplier = torch.as_tensor(self.multiplier, dtype=dtype, device=u.device)
        used_radius = (w * c.detach().to(dtype)).sum() + worst.divergence
        slack = multiplier * (self.radius - used_radius) - self.min_multiplier * self.radius
        self._record_terms(worst, w, c.detach().to(dtype), used_radius, base)
        # c − c.detach() is 0 with a gradient: the cost's value is in `used_radius`, its slope −λ·w
        moved = u - multiplier.to(u.dtype) * (c - c.detach())
        return (w.to(u.dtype) * moved).sum() + slack.to(u.dtype)

    @torch.no_grad()
    def _solve(self, u: Tensor, c: Tensor, p: Tensor) -> worst_case.WorstCase:
        """Return the worst measure; in exact mode, set the λ that goes with it."""
        last = self.multiplier.to(u)  # type: ignore[union-attr]
        v, moved = u - last * c, (c > 0).any()

        def allowed(worst: worst_case.WorstCase) -> Tensor:
            if self.mode == "learned":
                return worst.multiplier >= last
            # the costs are those of an attack at the last λ: at another λ it would pay less or more
            share = (last / worst.multiplier).clamp_max(1e6).pow(COST_EXPONENT)
            used_radius = worst.divergence + (worst.w * c).sum(-1) * share
            return (used_radius <= self.radius) & (worst.multiplier >= self.min_multiplier)

        worst = worst_case.solve_multiplier(self.worst_at, v, p, allowed)
        if self.mode == "exact":
            # where transport answers to λ, a full step would swing: the model of the cost is local
            low, high = last / MAX_FACTOR, (last * MAX_FACTOR).clamp_max(MAX_MULTIPLIER)
            damped_multiplier = worst.multiplier.clamp(low, high)
            now = torch.where(moved, damped_multiplier, worst.multiplier)
            self.multiplier = now.clamp_min(self.min_multiplier).to(self.multiplier.dtype)  # type: ignore[union-attr]
        return worst

    def _record_terms(
        self, worst: worst_case.WorstCase, w: Tensor, c: Tensor, used_radius: Tensor, base: Tensor
    ) -> None:
        n = (base > 0).sum()
        self._slope = self.radius - used_radius
        self.terms = {
            "lambda": torch.as_tensor(self.multiplier).detach().clone(),
            "divergence": worst.divergence,
            "transport": (w * c).sum(),
            "max_weight": n * w.amax(),
            "ess": 1 / (n * w.square().sum()),
            "active": (used_radius >= 0.99 * self.radius).to(w.dtype),
        }

    @torch.no_grad()
    def update(self, model: nn.Module, batch: Batch) -> None:
        """In learned mode, take a step of Adam on λ along the last slope radius − (E_w[c] + D)."""
        if self.mode != "learned" or self._slope is None:
            return
        # Adam by hand: its state is one buffer, so λ's optimizer is saved with the objective
        count, mean, power = self.step.unbind()
        slope = self._slope.to(self.step)
        count, mean = count + 1, ADAM_BETAS[0] * mean + (1 - ADAM_BETAS[0]) * slope
        power = ADAM_BETAS[1] * power + (1 - ADAM_BETAS[1]) * slope.square()
        self.step = torch.stack([count, mean, power])
        scale = (power / (1 - ADAM_BETAS[1] ** count)).sqrt() + 1e-8
        moved = self.multiplier - self.lr * mean / (1 - ADAM_BETAS[0] ** count) / scale
        least = max(self.min_multiplier, 1e-6)
        self.multiplier = moved.clamp_min(least).to(self.multiplier)  # type: ignore[arg-type]


class KL(Divergence):
    """Take the worst expected loss over a Kullback-Leibler ball.
    inf_λ λ·radius + λ·log mean exp(loss/λ − cost); w = softmax.

    Arguments:
        radius: radius of the ball, ≥ 0, in nats: 0 is the mean, log b the max of a batch of b.
        min_multiplier: κ ≥ 0, the temperature below which λ never falls.
        mode: `"exact"` solves λ for each batch; `"learned"` takes a step of Adam after each.
        initial_multiplier: λ to begin with.
        lr: learning rate of Adam in learned mode.

    `multiplier` is the λ of the last batch, which the next inner problem reads. Where transport
    costs, exact mode moves it by a factor of 2 per batch at most, and takes the cost to fall as
    λ^−2. Once λ has settled, neither matters.

    Raises:
        ValueError: for an argument out of its range.

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
        min_multiplier: float = 0.0,
        mode: str = "exact",
        initial_multiplier: float = 1.0,
        lr: float = 0.001,
    ) -> None:
        super().__init__(
            radius=radius,
            min_multiplier=min_multiplier,
            mode=mode,
            initial_multiplier=initial_multiplier,
            lr=lr,
        )

    def worst_at(self, v: Tensor, p: Tensor, t: Tensor) -> worst_case.WorstCase:
        return worst_case.kl(v, p, t)


class Alpha(Divergence):
    """Take the worst expected loss over a ball of the α-divergence: small losses get weight 0.
    f(r) = (r^α − 1)/(α(α − 1)).

    Arguments:
        alpha: α > 1; 2 is χ²/2, near 1 it is KL.
        radius, min_multiplier, mode, initial_multiplier, lr: as for `KL`.

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
        min_multiplier: float = 0.0,
        mode: str = "exact",
        initial_multiplier: float = 1.0,
        lr: float = 0.001,
    ) -> None:
        super().__init__(
            radius=radius,
            min_multiplier=min_multiplier,
            mode=mode,
            initial_multiplier=initial_multiplier,
            lr=lr,
        )
        require(1 < alpha < math.inf, "alpha", alpha, "a number > 1")
        self.alpha = alpha

    def worst_at(self, v: Tensor, p: Tensor, t: Tensor) -> worst_case.WorstCase:
        return worst_case.alpha(v, p, t, self.alpha)


class Renyi(Divergence):
    """Take the worst expected loss over a ball of the Rényi divergence R_α.

    Arguments:
        alpha: α > 1.
        reversed: R_α(P‖Q), as in the authors' code; False: R_α(Q‖P), whose ball is that of
            `Alpha` at another radius.
        radius, min_multiplier, mode, initial_multiplier, lr: as for `KL`.

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
        min_multiplier: float = 0.0,
        mode: str = "exact",
        initial_multiplier: float = 1.0,
        lr: float = 0.001,
    ) -> None:
        super().__init__(
            radius=radius,
            min_multiplier=min_multiplier,
            mode=mode,
            initial_multiplier=initial_multiplier,
            lr=lr,
        )
        require(1 < alpha < math.inf, "alpha", alpha, "a number > 1")
        self.alpha, self.reversed = alpha, reversed

    def worst_at(self, v: Tensor, p: Tensor, t: Tensor) -> worst_case.WorstCase:
        family = worst_case.reversed_renyi if self.reversed else worst_case.renyi
        return family(v, p, t, self.alpha)
