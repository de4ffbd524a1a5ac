"""Symptoms of an accuracy that is too high: measured quantity, thresholds and advice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..results.result import Check
from ..results.verdicts import LOOK, NO_GRADIENT_FREE, NOT_SOUND, SOUND

FEW = 20  # samples: from fewer, a share is no evidence, and no measurement is sound


@dataclass(frozen=True)
class Symptom:
    """Compare a measured value with two thresholds.

    Arguments:
        threshold: the symptom fires above it; the verdict is then at best "look".
        severe_threshold: above it the verdict is "not sound"; default: never.
    """

    name: str
    quantity: str
    threshold: float
    advice: str
    severe_threshold: float = math.inf

    def check(self, value: float, samples: int | None = None) -> Check:
        """Return whether the symptom fires at a value, and how severe it is.

        Arguments:
            samples: number of samples that the value is a share of; default: it is no share.
        """
        few = too_few(samples) if samples is not None and samples < FEW else ""
        fires = f"fires above {self.threshold:g}" if self.threshold < math.inf else "never fires"
        about = fires + (f"; {few}" if few else "")
        detail = f"{self.quantity}: {value:.3g} ({about})"
        # Written with `not … <=`, so that NaN fires and is severe.
        fired, severe = not value <= self.threshold, not value <= self.severe_threshold
        severe = severe and not few
        return Check(self.name, fired, self.advice, detail, NOT_SOUND if severe else LOOK)


def too_few(samples: int) -> str:
    """Return the remark on a share of few samples.

    >>> too_few(7)
    'on 7 samples: too few to judge'
    """
    return f"on {samples} sample{'s' * (samples != 1)}: too few to judge"


def screening(suite: str, confirmed_by: str) -> list[str]:
    """Return the reason for a look at the number of a suite that another one confirms.

    >>> screening("fast", "autoattack"), screening("autoattack", "")
    (['the suite fast is a first estimate: confirm it by the suite autoattack'], [])
    """
    reason = f"the suite {suite} is a first estimate: confirm it by the suite {confirmed_by}"
    return [reason] if confirmed_by else []


SYMPTOMS = (
    Symptom(
        "random noise beats gradients",
        "share of checked samples that 10 random points break and PGD-10 does not",
        0.02,
        "The gradients mislead the attack, so the true robust accuracy is lower. Look for "
        "rounding, thresholds, randomness or a custom backward in the model, and add an attack "
        "without gradients.",
        severe_threshold=0.02,
    ),
    Symptom(
        "more steps get weaker",
        "share of checked samples that one step breaks, minus the share that PGD-10 breaks",
        0.02,
        "An iterated attack should be at least as strong as its first step. It is not, so "
        "gradients are masked. Use the margin loss, restarts and an attack without gradients.",
        severe_threshold=0.02,
    ),
    Symptom(
        "zero gradients",
        "share of checked samples whose input gradient is zero, vanishing or not finite",
        0.05,
        "Gradient attacks do not move there: the logits are saturated, or a step of the model has "
        "no derivative. Attack the margin loss, and take temperatures, rounding and softmax out "
        "of the model.",
        severe_threshold=0.5,
    ),
    Symptom(
        "no gradients",
        "share of checked samples at which the model has no gradient by its kind, as trees have "
        "none",
        math.inf,
        "The robust accuracy is what searches by scores and labels found, and no attack by "
        "gradients checks them. Compare the attacks of bits-black-box, and raise their queries.",
    ),
    Symptom(
        "logit scale hides attacks",
        "share of checked samples that PGD-10 breaks once logits are scaled to a gap of 1, and "
        "not before",
        0.03,
        "The scale of the logits flattens cross-entropy, so gradients die in rounding. Attack a "
        "loss free of scale (dlr, margin), or take the temperature out of the model.",
        severe_threshold=0.1,
    ),
    Symptom(
        "more steps still gain",
        "share of checked samples that PGD-100 breaks and PGD-20 does not",
        0.05,
        "The attack has not converged at 20 steps, so a suite that stops there overestimates the "
        "robust accuracy. Use more steps and restarts, and compare.",
    ),
    Symptom(
        "rough loss surface",
        "1 minus the median cosine between gradients at x and at a point eps/20 beside it",
        0.7,
        "The gradient turns within a small part of the ball, so it is no guide for larger steps. "
        "Use many restarts, smaller steps and an attack without gradients.",
    ),
    Symptom(
        "label leaking",
        "accuracy under one FGSM step with the true label, minus clean accuracy",
        0.02,
        "A step up the loss raises the accuracy: the model was trained to recognise that step, or "
        "its gradient points the wrong way. Do not evaluate with one-step attacks.",
        severe_threshold=0.1,
    ),
    Symptom(
        "quantised or clipped inputs",
        "share of checked samples whose logits stay the same under changes of 0.0001 of the box",
        0.05,
        "The model rounds or clips its inputs, so its gradient there is not that of the function. "
        "Attack it with that step replaced by the identity (BPDA), and without gradients.",
        severe_threshold=0.5,
    ),
    Symptom(
        "train-mode model",
        "largest relative change of the logits between the model's mode as received and eval mode",
        1e-3,
        "The model was received in training mode, where its outputs differ; it was evaluated in "
        "eval mode. Call model.eval() where you use it.",
    ),
    Symptom(
        "randomized model",
        "largest relative change of the logits between two passes on the same inputs",
        1e-3,
        "The model draws random numbers in eval mode, so every accuracy is random. Attack its "
        "average over draws (suite autoattack-rand), or switch the randomness off.",
        severe_threshold=0.1,
    ),
    Symptom(
        "input range",
        "share of the box [low, high] that the data leave unused",
        0.5,
        "The inputs fill less than half of the box, so eps is larger than it seems. Check whether "
        "they were scaled twice, or low and high belong to another data set.",
    ),
    Symptom(
        "probabilities instead of logits",
        "share of outputs that are ≥ 0 and sum to 1, or one number in [0, 1] beside a 0",
        0.99,
        "The model ends in a softmax or sigmoid: losses flatten, gradients vanish, and one "
        "probability read as a logit is always positive. Return the logits, or say outputs = "
        "'probabilities'.",
    ),
    Symptom(
        "outputs not finite",
        "share of all samples with NaN or infinite logits, clean or under attack",
        0.0,
        "These samples count as misclassified. Look for a logarithm, root or division in the "
        "model, or overflow in half precision.",
        severe_threshold=0.1,
    ),
    Symptom(
        "buffers change",
        "whether the model's buffers differ between start and end of the evaluation",
        0.0,
        "The model adapts to what it sees, so its accuracy depends on the order of the samples "
        "and on the attacks before. Evaluate it with its buffers kept as they are.",
    ),
    Symptom(
        "contradiction",
        "samples that a certificate proves and an allowed point breaks",
        0.0,
        "One of the two is wrong, and the fault is in sparring: please report it with the model. "
        "Rely on neither number.",
        severe_threshold=0.0,
    ),
    Symptom(
        "queries outside the box",
        "samples that the attacks passed to the model outside [low, high], or with NaN",
        0.0,
        "Inputs there can't occur, and NaN ones come from gradients that are not finite: the "
        "attack is wasted on them, so the robust accuracy is too high.",
    ),
    Symptom(
        "infeasible points",
        "returned points outside the threat's set",
        0.0,
        "They count as failed attacks, so the robust accuracy is too high. The attack does not "
        "project, or its eps, norm or box differs from the threat's.",
        severe_threshold=0.0,
    ),
    Symptom(
        "larger eps gets weaker",
        "share of correct samples that break at a smaller radius and are robust at a larger one",
        0.01,
        "A point that breaks a sample at a smaller radius is allowed at a larger one: the attacks "
        "are too weak there. Use more steps and restarts.",
        severe_threshold=0.05,
    ),
    Symptom(
        "scaled logits break more",
        "share of checked samples that PGD-20 breaks on logits times 10 or 100, and not on the "
        "logits",
        0.03,
        "The scale of the logits hides attacks on cross-entropy. Attack a loss free of scale (dlr, "
        "margin), and rely on the lowest accuracy alone.",
        severe_threshold=0.1,
    ),
    Symptom(
        "margin breaks more",
        "share of checked samples that PGD-20 on the margin breaks, and on cross-entropy does not",
        0.05,
        "Cross-entropy is the weaker loss to attack here, so a suite with it alone overestimates "
        "the robust accuracy. Use one with the margin or dlr, such as autoattack.",
    ),
    Symptom(
        "adaptive steps break more",
        "share of checked samples that APGD-25 breaks and no attack of the suite does, at the "
        "radius where the robust accuracy is nearest to half the clean one",
        0.03,
        "The attacks stop where their loss no longer rises; steps of adaptive size still gain, so "
        "the true robust accuracy is lower. Use the suite autoattack.",
        severe_threshold=0.1,
    ),
    Symptom(
        "black-box beats white-box",
        "share of correct samples that attacks without gradients break and those with them do not",
        0.005,
        "Gradient attacks should be at least as strong as black-box ones. They are not, so "
        "gradients are masked and the true robust accuracy is lower. Attack with more restarts, "
        "other losses, or BPDA.",
        severe_threshold=0.03,
    ),
    Symptom(
        "labels beat scores",
        "share of correct samples that attacks on predicted classes break, and those on scores or "
        "gradients do not",
        0.01,
        "An attack that sees scores should be at least as strong as one that sees classes alone. "
        "It is not, so the scores mislead: they are flat or rounded. Raise the queries of the "
        "attacks on classes.",
        severe_threshold=0.05,
    ),
    Symptom(
        "transfer beats white-box",
        "share of correct samples that points computed on another model break, and gradient "
        "attacks on this one do not",
        0.005,
        "Gradient attacks should be at least as strong as points transferred from another model. "
        "They are not, so gradients are masked and the true robust accuracy is lower.",
        severe_threshold=0.03,
    ),
)


def check(measured: Mapping[str, float], samples: Mapping[str, int] | None = None) -> list[Check]:
    """Compare measured values with the thresholds; return the checks in the order of `SYMPTOMS`.

    Arguments:
        samples: number of samples that a value is a share of, by symptom, where it is one.

    >>> [c.fired for c in check({"infeasible points": 3, "zero gradients": 0.01})]
    [False, True]
    """
    samples = samples or {}
    names = [s for s in SYMPTOMS if s.name in measured]
    return [s.check(measured[s.name], samples.get(s.name)) for s in names]


def verdict(
    results: Sequence[Check],
    *,
    gradient_free: bool,
    better: str = "autoattack",
    early: str = "",
    open_ends: Sequence[str] = (),
    samples: int = FEW,
) -> tuple[str, list[str]]:
    """Return `"sound"`, `"look"` or `"not sound"`, and the reasons against a sound measurement.

    Arguments:
        results: of `check`.
        gradient_free: some attack that ran needs no gradients.
        better: a suite that has such an attack for the threat; "" if there is none.
        early: why the evaluation ended before its suite, else "".
        open_ends: other reasons why its number is no claim.
        samples: number of evaluated samples.

    >>> verdict([], gradient_free=True)
    ('sound', [])
    >>> verdict(check({"infeasible points": 3}), gradient_free=True)[0]
    'not sound'
    """
    fired = [c for c in results if c.fired]
    reasons = [f"{c.name}: {c.detail}" for c in fired]
    if not gradient_free:
        remedy = f"use the suite {better}" if better else "attack from another model (surrogate)"
        reasons.append(
            f"{NO_GRADIENT_FREE}, so masked gradients may hide weaknesses: {remedy} before you "
            "rely on the number"
        )
    if early:
        reasons.append(early)
    reasons += open_ends
    if samples < FEW:
        reasons.append(too_few(samples))
    if any(c.severity == NOT_SOUND for c in fired):
        return NOT_SOUND, reasons
    return (LOOK if reasons else SOUND), reasons
