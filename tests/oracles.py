"""Problems whose answer is known in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

DUAL = {math.inf: 1.0, 2.0: 2.0, 1.0: math.inf}


class Linear(nn.Module):
    """Logits (0, w·x + b): the margin of class 0 is w·x + b, so what an adversary gains is w·δ.

    With b below −Σ|w| class 0 wins everywhere in [0, 1]^d, so no attack stops early.
    """

    def __init__(self, w: Tensor, b: float | None = None) -> None:
        super().__init__()
        self.w = nn.Parameter(w.clone())
        self.b = nn.Parameter(-w.abs().sum() - 1 if b is None else torch.tensor(b, dtype=w.dtype))

    def forward(self, x: Tensor) -> Tensor:
        s = x.flatten(1) @ self.w + self.b
        return torch.stack([torch.zeros_like(s), s], 1)


def gain_in_ball(w: Tensor, eps: float, p: float) -> float:
    """max w·δ over ‖δ‖_p ≤ eps: eps·‖w‖ in the dual norm."""
    return eps * torch.linalg.vector_norm(w, ord=DUAL[p]).item()


def gain_in_linf_and_box(w: Tensor, x: Tensor, eps: float) -> Tensor:
    """max w·δ over ‖δ‖_∞ ≤ eps and x + δ in [0, 1]^d: Σ|w_i|·min(eps, room_i), `(b,)`."""
    room = torch.where(w > 0, 1 - x, x)
    return (w.abs() * room.clamp_max(eps)).sum(1)


def normal_cdf(t: float) -> float:
    """Φ(t)."""
    return 0.5 * math.erfc(-t / math.sqrt(2))


@dataclass
class TwoGaussians:
    """x = ±μ + σ·N(0, I), labels 1 and 0 equally often: what w·x + b > 0 withstands is known.

    >>> mean = torch.tensor([1.0, 0.0])
    >>> round(TwoGaussians(mean, 1.0).accuracy(mean, 0.0), 4)
    0.8413
    """

    mean: Tensor
    sigma: float

    def sample(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """`x (n, d)`, `y (n,)`, the labels in turn."""
        draw = torch.Generator().manual_seed(seed)
        y = torch.arange(n) % 2
        side = (2 * y - 1)[:, None].to(self.mean.dtype)
        noise = torch.randn(n, len(self.mean), generator=draw, dtype=self.mean.dtype)
        return side * self.mean + self.sigma * noise, y

    def accuracy(self, w: Tensor, b: float, eps: float = 0.0, p: float = math.inf) -> float:
        """Σ_± ½ Φ((w·μ ± b − eps·‖w‖_dual) / (σ‖w‖₂)): exact robust accuracy in the L_p ball."""
        lost = gain_in_ball(w, eps, p)
        scale = self.sigma * w.norm().item()
        reach = (w @ self.mean).item() - lost
        return 0.5 * (normal_cdf((reach + b) / scale) + normal_cdf((reach - b) / scale))

    def best(self, eps: float) -> float:
        """The highest robust accuracy of any linear classifier in the Linf ball: Φ(‖(|μ| − eps)₊‖₂
        / σ)."""
        return normal_cdf((self.mean.abs() - eps).clamp_min(0).norm().item() / self.sigma)


class Net(nn.Sequential):
    """A small seeded classifier of `(b, d)` in [0, 1]: k logits, tanh inside, so that every
    gradient is smooth."""

    def __init__(
        self, d: int = 6, k: int = 4, *, width: int = 12, seed: int = 0, scale: float = 1.0
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(nn.Linear(d, width), nn.Tanh(), nn.Linear(width, k))
        with torch.no_grad():
            for w in self.parameters():
                w.mul_(scale)


class Shifted(nn.Module):
    """A network that shifts its input first: in the caller's own tensor, or not."""

    def __init__(self, *, in_place: bool, **options: int) -> None:
        super().__init__()
        self.net, self.in_place = Net(scale=4.0, **options), in_place

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.sub_(0.1) if self.in_place else x - 0.1)


class NormedNet(nn.Sequential):
    """A small seeded image classifier with batch norm, dropout and mixed modes: everything an
    attack may disturb."""

    def __init__(self, *, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(
                nn.Conv2d(1, 4, 3, padding=1),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Dropout(0.3),
                nn.Flatten(),
                nn.Linear(4 * 4 * 4, 3),
            )


def problem(
    b: int = 8, d: int = 6, k: int = 4, *, seed: int = 0, dtype: torch.dtype = torch.float64
):
    """A net, inputs `(b, d)` in [0, 1] some of them on the edge, and labels `(b,)`, most of them
    its predictions."""
    model = Net(d, k, scale=2.0, seed=seed).to(dtype)
    draw = torch.Generator().manual_seed(seed + 1)
    x = (1.4 * torch.rand(b, d, generator=draw, dtype=dtype) - 0.2).clamp(0, 1)
    with torch.no_grad():
        y = model(x).argmax(1)
    y[::4] = (y[::4] + 1) % k
    return model, x, y


def admissible_bits(threat, x_adv: Tensor, x: Tensor) -> Tensor:
    """Return which points `(b,)` are binary, within the budget, and flip nothing that may not."""
    binary = (x_adv == threat.low) | (x_adv == threat.high)
    flipped = x_adv != x
    ok = binary & (~flipped | threat.can_flip(x))
    return ok.flatten(1).all(1) & (flipped.flatten(1).sum(1) <= threat.eps)
