"""Symptoms of a number that can't be trusted: each is a measure, a threshold and an advice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..results.result import Check

LOOK, DISTRUST, TRUST = "look", "do not trust", "trust"


@dataclass(frozen=True)
class Symptom:
    """Fires when its measure is above the threshold.

    Arguments:
        measure: what the number is, in words.
        severe: above this the accuracy is not to be trusted, below it one should look; inf for a
            symptom that never goes so far.
    """

    name: str
    measure: str
    threshold: float
    advice: str
    severe: float = math.inf

    def check(self, value: float) -> Check:
        """The verdict on a measured value; a value that is not a number fires."""
        detail = f"{self.measure}: {value:.3g} (fires above {self.threshold:g})"
        severity = LOOK if value <= self.severe else DISTRUST
        return Check(self.name, not value <= self.threshold, self.advice, detail, severity)


SYMPTOMS = (
    Symptom(
        "random noise beats gradients",
        "share of probed samples that 10 random points break and PGD-10 does not",
        0.02,
        "The gradients mislead the attack: the true robust accuracy is lower. Look for rounding, "
        "thresholds, randomness or a custom backward in the model, and add an attack that needs no "
        "gradients.",
        severe=0.02,
    ),
    Symptom(
        "more steps get weaker",
        "share of probed samples by which PGD-10 leaves more standing than one step",
        0.02,
        "An iterated attack must not lose to its first step: the loss surface is masked. Before "
        "you believe the number, use the margin loss, restarts and an attack without gradients.",
        severe=0.02,
    ),
    Symptom(
        "zero gradients",
        "share of probed samples whose input gradient is zero, vanishing or not finite",
        0.05,
        "An attack stands still there: the logits are saturated, or a step of the model has no "
        "derivative. Attack the margin loss, and take temperatures, rounding and softmax out of "
        "the model.",
        severe=0.5,
    ),
    Symptom(
        "logit scale hides attacks",
        "share of probed samples that PGD-10 breaks once logits are scaled to a gap of 1, and "
        "not before",
        0.03,
        "The scale of the logits flattens cross-entropy, so gradients die in rounding. Attack a "
        "loss free of scale (dlr, margin), or take the temperature out of the model.",
        severe=0.1,
    ),
    Symptom(
        "more steps still gain",
        "share of probed samples that PGD-100 breaks and PGD-20 does not",
        0.05,
        "The attack has not converged at 20 steps: a suite that stops there says too much. Use "
        "more steps and restarts, and compare.",
    ),
    Symptom(
        "rough loss surface",
        "1 minus the median cosine between gradients at x and at a point eps/20 beside it",
        0.7,
        "The gradient turns within a small part of the ball, so steps along it lead nowhere far. "
        "Use many restarts, smaller steps and an attack without gradients.",
    ),
    Symptom(
        "label leaking",
        "accuracy under one FGSM step with the true label, minus clean accuracy",
        0.02,
        "A step up the loss makes the model better: it was trained to recognise that step, or its "
        "gradient points the wrong way. Do not measure with one-step attacks.",
        severe=0.1,
    ),
    Symptom(
        "quantised or clipped inputs",
        "share of probed samples whose logits stay the same under changes of 0.0001 of the box",
        0.05,
        "The model rounds or clips its inputs, so its gradient there is not that of the function. "
        "Attack it with that step replaced by the identity (BPDA), and without gradients.",
        severe=0.5,
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
        "average over draws (suite autoattack-rand), or switch the randomness off.",
        severe=0.1,
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
        severe=0.0,
    ),
    Symptom(
        "larger eps gets weaker",
        "share of right samples that break at a smaller radius and stand at a larger one",
        0.01,
        "A point that breaks a sample at a smaller radius is allowed at a larger one: the attacks "
        "are too weak there. Use more steps and restarts.",
        severe=0.05,
    ),
    Symptom(
        "scaled logits break more",
        "share of probed samples that PGD-20 breaks on logits times 10 or 100, and not on the "
        "logits",
        0.03,
        "The scale of the logits hides attacks on cross-entropy. Attack a loss free of scale (dlr, "
        "margin), and believe the lowest accuracy only.",
        severe=0.1,
    ),
    Symptom(
        "margin breaks more",
        "share of probed samples that PGD-20 on the margin breaks, and on cross-entropy does not",
        0.05,
        "Cross-entropy is the weaker loss to attack here: a suite with it alone says too much. "
        "Take one with the margin or dlr, as autoattack.",
    ),
    Symptom(
        "adaptive steps break more",
        "share of probed samples that APGD-25 breaks and no attack of the suite does, at the "
        "radius where nearest to half stands",
        0.03,
        "The attacks stop where their loss no longer rises, and steps that adapt go on: the true "
        "robust accuracy is lower. Take the suite autoattack.",
        severe=0.1,
    ),
    Symptom(
        "black-box beats white-box",
        "share of right samples that attacks without gradients break and those with them do not",
        0.005,
        "Whoever sees the gradients must not do worse than who does not: they are masked. The true "
        "robust accuracy is lower; attack with more restarts, other losses, or BPDA.",
        severe=0.03,
    ),
    Symptom(
        "transfer beats white-box",
        "share of right samples that points made on another model break, and attacks on this one "
        "do not",
        0.005,
        "Points of another model lead further than the model's own gradients: they are masked. The "
        "true robust accuracy is lower.",
        severe=0.03,
    ),
)


def check(measured: Mapping[str, float]) -> list[Check]:
    """Every symptom that was measured, in the table's order.

    >>> [c.fired for c in check({"infeasible points": 3, "zero gradients": 0.01})]
    [False, True]
    """
    return [s.check(measured[s.name]) for s in SYMPTOMS if s.name in measured]


def verdict(
    found: Sequence[Check], *, gradient_free: bool, early: str = ""
) -> tuple[str, list[str]]:
    """`"trust"`, `"look"` or `"do not trust"`, and the reasons for what is not the first.

    Arguments:
        gradient_free: some attack of the suite needed no gradients.
        early: why the evaluation ended before its end.

    >>> verdict([], gradient_free=True)
    ('trust', [])
    >>> verdict(check({"infeasible points": 3}), gradient_free=True)[0]
    'do not trust'
    """
    fired = [c for c in found if c.fired]
    reasons = [f"{c.name}: {c.detail}" for c in fired]
    if not gradient_free:
        reasons.append(
            "no attack of this suite works without gradients, so masked ones would not show: "
            "use autoattack before you rely on the number"
        )
    if early:
        reasons.append(early)
    if any(c.severity == DISTRUST for c in fired):
        return DISTRUST, reasons
    return (LOOK if reasons else TRUST), reasons
