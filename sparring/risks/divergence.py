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
LEAST_MULTIPLIER = 1e-12
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
            # not 0, from which no factor leads back once transport costs something
            least = max(self.min_multiplier, LEAST_MULTIPLIER)
            self.multiplier = now.clamp_min(least).to(self.multiplier.dtype)  # type: ignore[union-attr]
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
            # of weights that may not sum to 1, or all be 0: `Alpha` with a learned ρ
            "ess": w.sum().square() / (n * w.square().sum()).clamp_min(1e-30),
            "active": (used_radius >= 0.99 * self.radius).to(w.dtype),
        }

    @torch.no_grad()
    def update(self, model: nn.Module, batch: Batch) -> None:
        """In learned mode, take a step of Adam on λ along the last slope radius − (E_w[c] + D)."""
        if self.mode != "learned" or self._slope is None:
            return
        self.step, move = self._adam(self.step, self._slope)
        least = max(self.min_multiplier, 1e-6)
        moved = (self.multiplier - move).clamp_min(least)
        self.multiplier = moved.to(self.multiplier)  # type: ignore[arg-type]

    def _adam(self, state: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Return Adam's next state `(3,)` and its step `()` against a slope."""
        # by hand: the state is one buffer, so a dual's optimizer is saved with the objective
        count, mean, power = state.unbind()
        slope = slope.to(state)
        count, mean = count + 1, ADAM_BETAS[0] * mean + (1 - ADAM_BETAS[0]) * slope
        power = ADAM_BETAS[1] * power + (1 - ADAM_BETAS[1]) * slope.square()
        scale = (power / (1 - ADAM_BETAS[1] ** count)).sqrt() + 1e-8
        move = self.lr * mean / (1 - ADAM_BETAS[0] ** count) / scale
        return torch.stack([count, mean, power]), move


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

    A radius that acts from the first step can freeze a training at log k: the worst samples of an
    untrained net get the weight. Let it grow: `{path = "risk.radius", name = "ramp"}`.

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
        solve_rho: solve the second dual ρ for each batch, so that the weights sum to 1. False, as
            the authors' code, takes a step of Adam on ρ after each batch. The value is then an
            upper bound, and the weights sum to what ρ makes of them. At the authors' rates for
            CIFAR ρ stays where it begins, which scales the learning rate and re-weights next to
            nothing; on MNIST it moves.
        initial_rho: ρ to begin with, where it is learned.
        radius, min_multiplier, mode, initial_multiplier, lr: as for `KL`.

    Raises:
        ValueError: as `KL`; and for `solve_rho=False` in exact mode.

    Source: Birrell and Ebrahimi 2023, ARMOR_α. Differs: ρ is solved by default.

    >>> batch = Batch(torch.zeros(2, 1), torch.zeros(2, dtype=int))
    >>> risk = Alpha(alpha=2.0, radius=0.125)
    >>> risk(torch.tensor([1.0, 3.0]), torch.zeros(2), batch).round(decimals=3)
    tensor(2.5000)
    """

    paper = "birrell2023armor"
    rho: Tensor
    rho_step: Tensor

    def __init__(
        self,
        *,
        alpha: float = 2.0,
        radius: float = 0.1,
        min_multiplier: float = 0.0,
        mode: str = "exact",
        initial_multiplier: float = 1.0,
        lr: float = 0.001,
        solve_rho: bool = True,
        initial_rho: float = 1.0,
    ) -> None:
        super().__init__(
            radius=radius,
            min_multiplier=min_multiplier,
            mode=mode,
            initial_multiplier=initial_multiplier,
            lr=lr,
        )
        require(1 < alpha < math.inf, "alpha", alpha, "a number > 1")
        fits = solve_rho or mode == "learned"
        require(fits, "solve_rho", solve_rho, 'True, unless mode = "learned"')
        require(math.isfinite(initial_rho), "initial_rho", initial_rho, "a finite number")
        self.alpha, self.solve_rho, self.initial_rho = alpha, solve_rho, initial_rho
        self._rho_slope: Tensor | None = None
        if not solve_rho:
            self.register_buffer("rho", torch.tensor(float(initial_rho)))
            self.register_buffer("rho_step", torch.zeros(3))

    def worst_at(self, v: Tensor, p: Tensor, t: Tensor) -> worst_case.WorstCase:
        return worst_case.alpha(v, p, t, self.alpha)

    def forward(self, loss: Tensor, cost: Tensor, batch: Batch) -> Tensor:
        if self.solve_rho:
            return super().forward(loss, cost, batch)
        u, c, base = (distributed.gather(t) for t in (loss, cost, batch.weight))
        dtype = torch.float32 if u.device.type == "mps" else torch.float64
        values, costs, p = u.detach().to(dtype), c.detach().to(dtype), base.to(dtype) / base.sum()
        multiplier, rho = (torch.as_tensor(t).to(values) for t in (self.multiplier, self.rho))
        dual = worst_case.alpha_dual(values - multiplier * costs, p, multiplier, rho, self.alpha)
        self._rho_slope = 1 - dual.w.sum()
        worst = worst_case.WorstCase(dual.w, multiplier, dual.divergence)
        used_radius = (dual.w * costs).sum() + dual.divergence
        self._record_terms(worst, dual.w, costs, used_radius, base)
        self.terms |= {"rho": rho.clone(), "total_weight": dual.w.sum()}
        value = multiplier * self.radius - self.min_multiplier * self.radius + dual.value
        moved = (u - u.detach()) - multiplier.to(u.dtype) * (c - c.detach())
        return (dual.w.to(u.dtype) * moved).sum() + value.to(u.dtype)

    @torch.no_grad()
    def update(self, model: nn.Module, batch: Batch) -> None:
        super().update(model, batch)
        if self._rho_slope is not None:
            self.rho_step, move = self._adam(self.rho_step, self._rho_slope)
            self.rho = self.rho - move


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
