"""Symptoms of a number that can't be trusted: each is a measure, a threshold and an advice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import losses, probe
from ..attacks import PGD, Noise
from ..attacks.base import Attack
from ..threats.base import Threat
from .guard import Model
from .judge import judge, logits
from .result import Check

ROWS = 256


@dataclass(frozen=True)
class Symptom:
    """Fires when its measure is above the threshold.

    Arguments:
        measure: what the number is, in words.
    """

    name: str
    measure: str
    threshold: float
    advice: str

    def check(self, value: float) -> Check:
        """The verdict on a measured value; a value that is not a number fires."""
        detail = f"{self.measure}: {value:.3g} (fires above {self.threshold:g})"
        return Check(self.name, not value <= self.threshold, self.advice, detail)


SYMPTOMS = (
    Symptom(
        "random noise beats gradients",
        "share of probed samples that 10 random points break and PGD-10 does not",
        0.02,
        "The gradients mislead the attack: the true robust accuracy is lower. Look for rounding, "
        "thresholds, randomness or a custom backward in the model, and add an attack that needs no "
        "gradients.",
    ),
    Symptom(
        "more steps get weaker",
        "share of probed samples by which PGD-10 leaves more standing than one step",
        0.02,
        "An iterated attack must not lose to its first step: the loss surface is masked. Before "
        "you believe the number, use the margin loss, restarts and an attack without gradients.",
    ),
    Symptom(
        "zero gradients",
        "share of probed samples whose input gradient is zero or not finite",
        0.05,
        "An attack stands still there: the logits are saturated, or a step of the model has no "
        "derivative. Attack the margin loss, and take temperatures, rounding and softmax out of "
        "the model.",
    ),
    Symptom(
        "train-mode model",
        "largest relative change of the logits between the mode handed over and eval mode",
        1e-3,
        "The model came in training mode and behaves differently there; it was evaluated in eval "
        "mode. Call model.eval() where you use it.",
    ),
    Symptom(
        "randomized model",
        "largest relative change of the logits when the same inputs are asked twice",
        1e-3,
        "The model draws random numbers in eval mode, so every accuracy is random. Attack its "
        "average over draws, or switch the randomness off.",
    ),
    Symptom(
        "input range",
        "share of the box [low, high] that the data leave unused",
        0.5,
        "The inputs fill less than half of the box, so eps means something else than it says. See "
        "whether they were scaled twice, or low and high are those of another data set.",
    ),
    Symptom(
        "probabilities instead of logits",
        "share of outputs that are ≥ 0 and sum to 1",
        0.99,
        "The model ends in a softmax: losses flatten and gradients vanish. Return the logits and "
        "leave softmax to the loss.",
    ),
    Symptom(
        "outputs not finite",
        "share of all samples with NaN or infinite logits, clean or under attack",
        0.0,
        "These samples count as misclassified. Look for a logarithm, root or division in the "
        "model, or overflow in half precision.",
    ),
    Symptom(
        "queries outside the box",
        "samples that the attacks asked about outside [low, high], or with NaN",
        0.0,
        "Inputs there can't occur, and NaN ones come from gradients that are not finite: the "
        "attack is wasted on them, so the robust accuracy is too high.",
    ),
    Symptom(
        "infeasible points",
        "returned points outside the threat's set",
        0.0,
        "They count as failed attacks, so the robust accuracy is too high. The attack forgets to "
        "project, or its eps, norm or box is not the threat's.",
    ),
    Symptom(
        "larger eps gets weaker",
        "share of right samples that break at a smaller radius and stand at a larger one",
        0.01,
        "A point that breaks a sample at a smaller radius is allowed at a larger one: the attacks "
        "are too weak there. Use more steps and restarts.",
    ),
)


def check(measured: Mapping[str, float]) -> list[Check]:
    """Every symptom that was measured, in the table's order.

    >>> [c.fired for c in check({"infeasible points": 3, "zero gradients": 0.01})]
    [False, True]
    """
    return [s.check(measured[s.name]) for s in SYMPTOMS if s.name in measured]


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


def of_gradients(
    model: Model, threat: Threat, x: Tensor, y: Tensor, *, batch: int = ROWS, seed: int = 0
) -> dict[str, float]:
    """Whether gradients lead the adversary, on samples `x (b, *d)` that the model gets right."""
    if len(x) == 0:
        return {}
    parts = list(zip(x.split(batch), y.split(batch), strict=True))
    flat = torch.cat([_flat(model, *part) for part in parts])
    found = {"zero gradients": flat.float().mean().item()}
    if flat.all():
        return found
    attacks = (
        Noise(threat, draws=10, seed=seed),
        PGD(threat, steps=1, random_start=False),
        PGD(threat, steps=10, seed=seed),
    )
    noise, one, many = (torch.cat([_broken(model, a, *p) for p in parts]) for a in attacks)
    return found | {
        "random noise beats gradients": (noise & ~many).float().mean().item(),
        "more steps get weaker": (one.float().mean() - many.float().mean()).item(),
    }


def _broken(model: Model, attack: Attack, x: Tensor, y: Tensor) -> Tensor:
    found = judge(model, attack.threat, attack(model, x, y), x, y, who="probe")
    return found.allowed & (found.prediction != y)


def _flat(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Where the gradient of cross-entropy is all zero, or not finite `(b,)`."""
    with probe.hold(model, "eval"), torch.enable_grad():
        z = x.detach().clone().requires_grad_()
        loss = losses.cross_entropy(model(z).float(), y).sum()
        if not loss.requires_grad:
            return torch.ones(len(x), dtype=torch.bool, device=x.device)
        (grad,) = torch.autograd.grad(loss, z)
    grad = grad.flatten(1)
    return ~torch.isfinite(grad).all(1) | (grad == 0).all(1)


def _change(a: Tensor, b: Tensor) -> float:
    """max |a − b| / max(1, max |b|); 0 where both are the same kind of not finite."""
    a, b = torch.nan_to_num(a), torch.nan_to_num(b)
    return ((a - b).abs().max() / b.abs().max().clamp_min(1)).item() if len(a) else 0.0


def _as_handed_over(model: Model, x: Tensor) -> Tensor:
    """Logits in the modes the modules are in; the global random state stays."""
    devices = [x.device] if x.is_cuda else []
    with torch.random.fork_rng(devices), probe.hold(model, "keep"), torch.no_grad():
        return model(x).float()
