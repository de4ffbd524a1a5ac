"""Measure the symptoms of masked gradients; `checks` judges them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..attacks import APGD, PGD, BitSearch, Noise
from ..attacks.base import Attack
from ..batch import Batch, Model
from ..functional import losses
from ..introspect import freeze
from ..introspect.predict import logits
from ..threats.base import Threat
from .judge import judge

ROWS = 256
FEW = 128  # of them, for what is dear
TINY = 1e-4  # of the box: a change that a continuous model must notice


def of_model(model: Model, x: Tensor) -> dict[str, float]:
    """What a few inputs `x (b, *d)` tell about a model in the mode it was handed over in."""
    z = logits(model, x)
    again = logits(model, x)
    training = isinstance(model, nn.Module) and any(m.training for m in model.modules())
    simplex = (z >= 0).all(1) & ((z.sum(1) - 1).abs() < 1e-4)
    return {
        "train-mode model": _change(_as_handed_over(model, x), z) if training else 0.0,
        "randomized model": _change(again, z),
        "probabilities instead of logits": simplex.float().mean().item(),
    }


def of_range(least: float, most: float, *, low: float, high: float) -> dict[str, float]:
    """How much of the box [low, high] data that reach from `least` to `most` leave unused."""
    return {"input range": 1 - (most - least) / (high - low)}


def of_leaking(model: Model, threat: Threat, x: Tensor, y: Tensor) -> dict[str, float]:
    """Whether a step up the loss of the true label makes the model better, on any samples.

    Source: Kurakin et al. 2017, sec. 4.2.
    """
    grad = gradient(model, x, y, losses.cross_entropy)[1]
    if grad is None or len(x) == 0:
        return {}
    batch, length = Batch(x, y), threat.reach
    z = threat.project(threat.step(x, grad.nan_to_num(), length, batch), batch)
    z = threat.discretize(z, batch)
    before, after = (logits(model, p).argmax(1) == y for p in (x, z))
    return {"label leaking": (after.float().mean() - before.float().mean()).item()}


def of_gradients(
    model: Model, threat: Threat, x: Tensor, y: Tensor, *, batch: int = ROWS, seed: int = 0
) -> dict[str, float]:
    """Whether gradients lead the adversary, on samples `x (b, *d)` that the model gets right."""
    if len(x) == 0:
        return {}
    parts = list(zip(x.split(batch), y.split(batch), strict=True))
    flat = torch.cat([_flat(model, *part) for part in parts])
    still = torch.cat([_still(model, threat, p, seed) for p, _ in parts])
    found = {
        "zero gradients": flat.float().mean().item(),
        "quantised or clipped inputs": still.float().mean().item(),
    }
    differs = gradient(model, x[:1], y[:1], losses.cross_entropy)[1] is not None
    if not differs:
        return found
    found |= _of_scale(model, threat, parts, seed)
    if flat.all():
        return found
    attacks = (
        Noise(threat, draws=10, seed=seed),
        _climb(threat, 1, random_start=False),
        _climb(threat, 10, seed=seed),
    )
    few = slice(min(FEW, batch))
    noise, one, many = (torch.cat([_broken(model, a, *p) for p in parts]) for a in attacks)
    return {
        **found,
        **_of_steps(model, threat, x[few], y[few], seed),
        **_of_surface(model, threat, x[few], y[few], seed),
        "random noise beats gradients": (noise & ~many).float().mean().item(),
        "more steps get weaker": (one.float().mean() - many.float().mean()).item(),
    }


def of_standing(
    model: Model, threat: Threat, x: Tensor, y: Tensor, *, asked: int, batch: int = FEW, seed: int
) -> dict[str, float]:
    """What steps that adapt break of samples `x (b, *d)` that stood a suite, as a share of all that
    were asked. Nothing for threats APGD does not know, or without gradients."""
    if threat.binary or getattr(threat, "p", None) not in APGD.norms or asked == 0:
        return {}
    broken = 0
    for part in zip(x.split(batch), y.split(batch), strict=True):
        if gradient(model, *part, losses.cross_entropy)[1] is None:
            return {}
        broken += int(_broken(model, APGD(threat, steps=25, seed=seed), *part).sum())
    return {"adaptive steps break more": broken / asked}


def _of_scale(
    model: Model, threat: Threat, parts: list[tuple[Tensor, Tensor]], seed: int
) -> dict[str, float]:
    """What PGD-10 gains when the logits are divided by their mean gap of first and second."""
    top = torch.cat([logits(model, x).nan_to_num().topk(2, 1).values for x, _ in parts])
    gap = (top[:, 0] - top[:, 1]).mean().clamp_min(1e-30)
    attack = _climb(threat, 10, seed=seed)
    gained = []
    for x, y in parts:
        attack.reseed(seed)
        raw = _broken(model, attack, x, y)
        attack.reseed(seed)
        z = attack(Scaled(model, gap), x, y)
        gained.append(wrong(model, threat, z, x, y) & ~raw)
    return {"logit scale hides attacks": torch.cat(gained).float().mean().item()}


def _of_steps(model: Model, threat: Threat, x: Tensor, y: Tensor, seed: int) -> dict[str, float]:
    """What 100 steps break and 20 do not."""
    few, many = (_broken(model, _climb(threat, s, seed=seed), x, y) for s in (20, 100))
    return {"more steps still gain": (many & ~few).float().mean().item()}


def _of_surface(model: Model, threat: Threat, x: Tensor, y: Tensor, seed: int) -> dict[str, float]:
    """How far the gradient of the margin turns over a twentieth of the radius."""
    generator = torch.Generator(x.device).manual_seed(seed)
    far = threat.random_start(Batch(x, y), generator)
    near = x + (far - x) / 20
    here, there = (gradient(model, p, y, losses.margin)[1] for p in (x, near))
    assert here is not None
    assert there is not None
    here, there = here.flatten(1), there.flatten(1)
    norms = here.norm(dim=1) * there.norm(dim=1)
    live = torch.isfinite(norms) & (norms > 0)
    if not live.any():
        return {}
    cosine = (here * there).sum(1)[live] / norms[live]
    return {"rough loss surface": 1 - cosine.median().item()}


class Scaled(nn.Module):
    """A model whose logits are divided by a number."""

    def __init__(self, model: Model, gap: Tensor) -> None:
        super().__init__()
        self.model, self.gap = model, gap
        self.training = getattr(model, "training", False)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) / self.gap


def _climb(threat: Threat, steps: int, *, seed: int = 0, random_start: bool = True) -> Attack:
    """So many gradient steps that end where the threat allows: PGD, or local search on bits."""
    if threat.binary:
        return BitSearch(threat, steps=steps, restarts=1, targets=0, tries=0, seed=seed)
    return PGD(threat, steps=steps, random_start=random_start, seed=seed)


def _broken(model: Model, attack: Attack, x: Tensor, y: Tensor) -> Tensor:
    return wrong(model, attack.threat, attack(model, x, y), x, y)


def wrong(model: Model, threat: Threat, x_adv: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Where a point is allowed and the model gets it wrong `(b,)`."""
    found = judge(model, threat, threat.discretize(x_adv, Batch(x, y)), x, y, who="probe")
    return found.allowed & (found.prediction != y)


def gradient(
    model: Model, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor | None]:
    """A loss `(b,)` and its gradient in x, None where the model has none."""
    with freeze.frozen(model, "eval"), torch.enable_grad():
        z = x.detach().clone().requires_grad_()
        value = loss(model(z).float(), y)
        if not value.requires_grad:
            return value, None
        (grad,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), grad


def _flat(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Where the gradient of cross-entropy is zero or below 1e-30 all over, or not finite `(b,)`."""
    grad = gradient(model, x, y, losses.cross_entropy)[1]
    if grad is None:
        return torch.ones(len(x), dtype=torch.bool, device=x.device)
    grad = grad.flatten(1)
    return ~torch.isfinite(grad).all(1) | (grad.abs().amax(1) < 1e-30)


def _still(model: Model, threat: Threat, x: Tensor, seed: int) -> Tensor:
    """Whose logits are the same after a tiny change of every coordinate `(b,)`."""
    generator = torch.Generator(x.device).manual_seed(seed)
    sign = torch.randint(0, 2, x.shape, generator=generator, device=x.device) * 2 - 1
    moved = x + sign * TINY * (threat.high - threat.low)
    moved = moved.clamp(threat.low, threat.high)
    before, after = logits(model, x), logits(model, moved)
    return (before == after).all(1) & (moved != x).flatten(1).any(1)


def _change(a: Tensor, b: Tensor) -> float:
    """max |a − b| / max(1, max |b|); 0 where both are the same kind of not finite."""
    a, b = torch.nan_to_num(a), torch.nan_to_num(b)
    return ((a - b).abs().max() / b.abs().max().clamp_min(1)).item() if len(a) else 0.0


def _as_handed_over(model: Model, x: Tensor) -> Tensor:
    """Logits in the modes the modules are in; the global random state stays."""
    devices = [x.device] if x.is_cuda else []
    with torch.random.fork_rng(devices), freeze.frozen(model, "keep"), torch.no_grad():
        return model(x).float()
