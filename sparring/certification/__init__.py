"""Certificates: lower bounds on robust accuracy, beside the upper bounds that attacks give."""

from __future__ import annotations

import time
from collections.abc import Sequence

from torch import Tensor

from ..batch import Model
from ..component import did_you_mean, require
from ..results.intervals import wilson
from ..results.result import Certificate
from ..threats.base import Threat
from ..threats.l2 import L2
from ..threats.linf import Linf
from . import bounds, smoothing
from .bounds import certify, margins

__all__ = ["METHODS", "bounds", "certificates", "certify", "margins", "ready", "smoothing"]

METHODS = {  # name, balls, samples, what is proven
    "ibp": ("IBP", (Linf, L2), None, "intervals, elided last layer"),
    "crown-ibp": ("CROWN-IBP", (Linf, L2), None, "linear relaxations over interval bounds"),
    "crown": ("CROWN", (Linf, L2), 100, "linear relaxations all the way"),
    "smoothing": ("smoothing", (L2,), 100, ""),
}
Levels = Sequence[tuple[float | None, Threat]]


def ready(model: Model, x: Tensor, threats: Levels, *, methods: Sequence[str]) -> None:
    """Raise a `ValueError` for what `certificates` would refuse; call it before a long evaluation.

    Arguments:
        x: a few samples `(b, *d)`, b ≥ 1.
    """
    for name in methods:
        if name not in METHODS:
            raise ValueError(did_you_mean("certify", name, METHODS))
        balls = METHODS[name][1]
        fits = [threat for _, threat in threats if type(threat) in balls]
        asked = sorted({type(threat).__name__ for _, threat in threats})
        allowed = " or ".join(ball.__name__ for ball in balls)
        require(fits, "certify", name, f"left out for {', '.join(asked)}: it is for {allowed}")
        if name != "smoothing":
            bounds.read(model, x[:1])


def certificates(
    model: Model,
    x: Tensor,
    y: Tensor,
    threats: Levels,
    *,
    methods: Sequence[str] = ("ibp", "crown-ibp"),
    n: int | None = None,
    seed: int = 0,
    sigma: float | None = None,
    draws: int = 1000,
    alpha: float = 0.001,
) -> list[list[Certificate]]:
    """For each radius a lower bound on robust accuracy by each method that knows its norm.

    Arguments:
        x, y: samples `(b, *d)` in the threats' bounds, labels `(b,)`.
        threats: the threat at each radius, as (eps, threat).
        n: the first so many samples; where omitted all for `"ibp"` and `"crown-ibp"`, 100 for what
            costs more.
        sigma: noise of smoothing, in input units; half of the largest L2 radius where omitted.
        draws, alpha: noisy copies of each sample, and the chance that one of its claims is wrong.

    Raises:
        ValueError: for a method that does not exist, fits no threat or can't read the model.
    """
    require(n is None or n >= 1, "n", n, "an integer ≥ 1, or None")
    ready(model, x, threats, methods=methods)
    found: list[list[Certificate]] = [[] for _ in threats]
    for name in methods:
        label, balls, first, what = METHODS[name]
        rows = min(len(x), n or first or len(x))
        own = [i for i, (_, threat) in enumerate(threats) if type(threat) in balls]
        if name == "smoothing":
            radii = [float(threats[i][1].eps) for i in own]  # type: ignore[arg-type]
            noise = sigma or max(radii) / 2 or 0.25
            settings = {"sigma": noise, "draws": draws, "alpha": alpha, "seed": seed}
            made = _smoothed(model, x[:rows], y[:rows], radii, **settings)
            for i, certificate in zip(own, made, strict=True):
                found[i].append(certificate)
            continue
        for i in own:
            begun = time.perf_counter()
            proven = certify(model, x[:rows], y[:rows], threat=threats[i][1], method=name)
            detail = f"proven of the model itself: {what}"
            found[i].append(_certificate(label, proven, begun, detail))
    return found


def _smoothed(
    model: Model,
    x: Tensor,
    y: Tensor,
    radii: Sequence[float],
    *,
    sigma: float,
    draws: int,
    alpha: float,
    seed: int,
) -> list[Certificate]:
    """One pass of noise for all radii."""
    begun = time.perf_counter()
    radius, said = smoothing.certify(model, x, sigma=sigma, draws=draws, alpha=alpha, seed=seed)
    detail = (
        f"proven of the smoothed model (its vote under noise of σ = {sigma:g}), not of the bare "
        f"one that is attacked: {draws} draws a sample, each claim right with probability "
        f"{1 - alpha:.12g}; {int((said < 0).sum())} abstained"
    )
    name = f"smoothing σ = {sigma:g}"
    return [_certificate(name, (said == y) & (radius > eps), begun, detail) for eps in radii]


def _certificate(name: str, proven: Tensor, begun: float, detail: str) -> Certificate:
    share, seconds = wilson(int(proven.sum()), len(proven)), time.perf_counter() - begun
    return Certificate(name, share.accuracy, share.low, share.high, len(proven), seconds, detail)
