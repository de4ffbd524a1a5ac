"""Measure symptoms of masked gradients on samples; `checks` has their thresholds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..attacks import APGD, PGD, BitSearch, Noise
from ..attacks.base import Attack
from ..batch import Batch, Model
from ..functional import losses
from ..introspect import freeze
from ..introspect.predict import is_without_gradient, logits
from ..threats.base import Threat, on_rows
from .judge import judge

Measure = Callable[[Callable[[Tensor, Tensor], Tensor]], Tensor]
ROWS = 256  # checked samples
FEW = 128  # checked samples of expensive measurements
NO_GRADIENTS = "no gradients"
TINY = 1e-4  # a share of the box: a continuous model must react to such a change


def model_symptoms(model: Model, x: Tensor) -> dict[str, float]:
    """Measure symptoms of the model as received, before it is set to eval mode, on `x (b, *d)`."""
    z, again = logits(model, x), logits(model, x)
    training = isinstance(model, nn.Module) and any(m.training for m in model.modules())
    simplex = (z >= 0).all(1) & ((z.sum(1) - 1).abs() < 1e-4)
    if z.shape[1] == 2:  # one number p became the logits (0, p): p in [0, 1] is a probability
        simplex |= (z[:, 0] == 0) & (z[:, 1] >= 0) & (z[:, 1] <= 1)
    return {
        "train-mode model": _relative_change(_logits_as_received(model, x), z) if training else 0.0,
        "randomized model": _relative_change(again, z),
        "probabilities instead of logits": simplex.float().mean().item(),
    }


def input_range(x_min: float, x_max: float, *, low: float, high: float) -> dict[str, float]:
    """Compute the share of the box [low, high] that data from `x_min` to `x_max` leave unused."""
    return {"input range": 1 - (x_max - x_min) / (high - low)}


def label_leaking(model: Model, threat: Threat, x: Tensor, y: Tensor) -> dict[str, float]:
    """Measure how much accuracy rises under one step up the loss of the true label.

    Source: Kurakin et al. 2017, sec. 4.2.
    """
    grad = loss_gradient(model, x, y)
    if grad is None or len(x) == 0:
        return {}
    batch = Batch(x, y)
    z = threat.step(x, grad.nan_to_num(), threat.reach, batch)
    z = threat.discretize(threat.project(z, batch), batch)
    before, after = (logits(model, p).argmax(1) == y for p in (x, z))
    return {"label leaking": (after.float().mean() - before.float().mean()).item()}


def gradient_symptoms(
    model: Model, threat: Threat, x: Tensor, y: Tensor, *, batch_size: int = ROWS, seed: int = 0
) -> dict[str, float]:
    """Measure whether gradients lead the adversary, on `x (b, *d)` that the model gets right."""
    if len(x) == 0:
        return {}
    if is_without_gradient(model) and loss_gradient(model, x[:1], y[:1]) is None:
        return {NO_GRADIENTS: 1.0}  # trees are flat between their thresholds: no sign of a trick

    def measure(run: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return over_chunks(run, threat, x, y, batch_size)

    no_gradient = measure(lambda x, y: _has_no_gradient(model, x, y))
    insensitive = measure(lambda x, y: _is_insensitive(model, threat, x, seed))
    symptoms = {
        "zero gradients": no_gradient.float().mean().item(),
        "quantised or clipped inputs": insensitive.float().mean().item(),
    }
    if loss_gradient(model, x[:1], y[:1]) is None:
        return symptoms
    # Before the early return: this symptom is about saturated logits, without any gradient.
    symptoms |= {} if threat.groups else _logit_scale(model, threat, measure, seed)
    if no_gradient.all() or threat.groups:  # no attack by gradients moves groups
        return symptoms
    attacks = (
        Noise(threat, draws=10, seed=seed),
        _gradient_attack(threat, 1, random_start=False),
        _gradient_attack(threat, 10, seed=seed),
    )
    few = slice(min(FEW, batch_size))
    noise, one, many = (measure(partial(_broken, model, attack)) for attack in attacks)
    return {
        **symptoms,
        **_more_steps(model, threat, x[few], y[few], seed),
        **_surface_roughness(model, threat, x[few], y[few], seed),
        "random noise beats gradients": (noise & ~many).float().mean().item(),
        "more steps get weaker": (one.float().mean() - many.float().mean()).item(),
    }


def adaptive_attack_symptom(
    model: Model, threat: Threat, x: Tensor, y: Tensor, *, n: int, batch_size: int = FEW, seed: int
) -> dict[str, float]:
    """Measure how many samples `x (b, *d)`, robust under a suite, APGD-25 breaks.

    Nothing for threats that APGD does not support, or without gradients.

    Arguments:
        n: number of checked samples, robust or not: the share is of these.
    """
    if threat.binary or getattr(threat, "p", None) not in APGD.norms or n == 0:
        return {}
    broken = 0
    if not len(x):  # nothing is left to break; networks with instance norm refuse an empty batch
        return {"adaptive steps break more": 0.0}
    for chunk in zip(x.split(batch_size), y.split(batch_size), strict=True):
        if loss_gradient(model, *chunk) is None:
            return {}
        broken += int(_broken(model, APGD(threat, steps=25, seed=seed), *chunk).sum())
    return {"adaptive steps break more": broken / n}


def over_chunks(
    run: Callable[[Tensor, Tensor], Tensor], threat: Threat, x: Tensor, y: Tensor, batch_size: int
) -> Tensor:
    """Return `run(x, y)` of all samples, `batch_size` at a time; inside, the threat acts on their
    rows alone."""
    out = []
    for rows in torch.arange(len(x), device=x.device).split(batch_size):
        with on_rows([threat], rows, x[rows]):
            out.append(run(x[rows], y[rows]))
    return torch.cat(out)


def _logit_scale(model: Model, threat: Threat, measure: Measure, seed: int) -> dict[str, float]:
    """Measure what PGD-10 gains when logits are divided by the mean gap of the largest two."""
    top = measure(lambda x, y: logits(model, x).nan_to_num().topk(2, 1).values)
    gap = (top[:, 0] - top[:, 1]).mean().clamp_min(1e-30)
    attack = _gradient_attack(threat, 10, seed=seed)

    def gained(x: Tensor, y: Tensor) -> Tensor:
        broken = []
        for attacked in (model, ScaledLogits(model, gap)):
            attack.reseed(seed)  # the same start for both, so that only the scale differs
            broken.append(is_adversarial(model, threat, attack(attacked, x, y), x, y))
        return broken[1] & ~broken[0]

    return {"logit scale hides attacks": measure(gained).float().mean().item()}


def _more_steps(model: Model, threat: Threat, x: Tensor, y: Tensor, seed: int) -> dict[str, float]:
    """Measure the share of samples that 100 steps break and 20 do not."""
    few, many = (_broken(model, _gradient_attack(threat, s, seed=seed), x, y) for s in (20, 100))
    return {"more steps still gain": (many & ~few).float().mean().item()}


def _surface_roughness(
    model: Model, threat: Threat, x: Tensor, y: Tensor, seed: int
) -> dict[str, float]:
    """Measure how far the gradient of the margin turns over a twentieth of the radius."""
    far = threat.random_start(Batch(x, y), torch.Generator(x.device).manual_seed(seed))
    near = x + (far - x) / 20
    # The margin, since the gradient of cross-entropy vanishes on confident samples.
    grads = [loss_gradient(model, p, y, losses.margin) for p in (x, near)]
    grad_at_x, grad_nearby = (grad.flatten(1) for grad in grads if grad is not None)
    norms = grad_at_x.norm(dim=1) * grad_nearby.norm(dim=1)
    live = torch.isfinite(norms) & (norms > 0)
    if not live.any():
        return {}
    cosine = (grad_at_x * grad_nearby).sum(1)[live] / norms[live]
    return {"rough loss surface": 1 - cosine.median().item()}


class ScaledLogits(nn.Module):
    """Divide a model's logits by a number."""

    def __init__(self, model: Model, divisor: Tensor) -> None:
        super().__init__()
        self.model, self.divisor = model, divisor
        self.training = getattr(model, "training", False)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) / self.divisor


def _gradient_attack(
    threat: Threat, steps: int, *, seed: int = 0, random_start: bool = True
) -> Attack:
    """Return PGD with this many steps; on bits, local search."""
    if threat.binary:
        return BitSearch(threat, steps=steps, restarts=1, targets=0, tries=0, seed=seed)
    return PGD(threat, steps=steps, random_start=random_start, seed=seed)


def _broken(model: Model, attack: Attack, x: Tensor, y: Tensor) -> Tensor:
    return is_adversarial(model, attack.threat, attack(model, x, y), x, y)


def is_adversarial(model: Model, threat: Threat, x_adv: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return which points the threat allows and the model gets wrong `(b,)`."""
    x_adv = threat.discretize(x_adv, Batch(x, y))
    return judge(model, threat, x_adv, x, y, name="probe").is_adversarial(y)


def loss_gradient(
    model: Model, x: Tensor, y: Tensor, loss: Callable[..., Tensor] = losses.cross_entropy
) -> Tensor | None:
    """Compute the gradient of a loss in x; None if the model has no gradient."""
    with freeze.frozen(model, "eval") as run, torch.enable_grad():
        z = x.detach().clone().requires_grad_()
        value = loss(run(z).float(), y)
        if not value.requires_grad:
            return None
        # A function's weights may have a gradient where its input has none.
        return torch.autograd.grad(value.sum(), z, allow_unused=True)[0]


def _has_no_gradient(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Return where the gradient of cross-entropy is below 1e-30 in every entry, or not finite
    `(b,)`."""
    grad = loss_gradient(model, x, y)
    if grad is None:
        return torch.ones(len(x), dtype=torch.bool, device=x.device)
    grad = grad.flatten(1)
    return ~torch.isfinite(grad).all(1) | (grad.abs().amax(1) < 1e-30)


def _is_insensitive(model: Model, threat: Threat, x: Tensor, seed: int) -> Tensor:
    """Return which samples keep their logits under a tiny change of every coordinate `(b,)`."""
    generator = torch.Generator(x.device).manual_seed(seed)
    sign = torch.randint(0, 2, x.shape, generator=generator, device=x.device) * 2 - 1
    moved = (x + sign * TINY * (threat.high - threat.low)).clamp(threat.low, threat.high)
    before, after = logits(model, x), logits(model, moved)
    return (before == after).all(1) & (moved != x).flatten(1).any(1)


def _relative_change(a: Tensor, b: Tensor) -> float:
    """Compute max |a − b| / max(1, max |b|); 0 where both have the same infinity or NaN."""
    a, b = torch.nan_to_num(a), torch.nan_to_num(b)
    return ((a - b).abs().max() / b.abs().max().clamp_min(1)).item() if len(a) else 0.0


def _logits_as_received(model: Model, x: Tensor) -> Tensor:
    """Compute logits in the mode of each module, without touching the global random state."""
    devices = [x.device] if x.is_cuda else []
    with torch.random.fork_rng(devices), freeze.frozen(model, "keep") as run, torch.no_grad():
        return run(x).float()
