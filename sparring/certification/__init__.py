"""Certificates: lower bounds on robust accuracy, beside the upper bounds from attacks."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence

from torch import Tensor

from ..batch import Model
from ..component import did_you_mean, require
from ..results.intervals import wilson
from ..results.result import Certificate
from ..runtime.annotations import Rules, fitted
from ..runtime.progress import EvaluationProgress
from ..runtime.warning import SparringWarning
from ..threats.base import Threat
from ..threats.l2 import L2
from ..threats.linf import Linf
from . import bounds, graph, smoothing
from .bounds import Step, certify, margin_upper_bounds

__all__ = ["METHODS", "bounds", "certificates", "certify", "margin_upper_bounds"]
__all__ += ["require_certifiable", "smoothing"]


def __dir__() -> list[str]:
    return sorted(__all__)


METHODS = {  # label, threats, default number of samples (None: all), technique
    "ibp": ("IBP", (Linf, L2), None, "intervals, elided last layer"),
    "crown-ibp": ("CROWN-IBP", (Linf, L2), None, "linear relaxations over interval bounds"),
    "crown": ("CROWN", (Linf, L2), 100, "linear relaxations all the way"),
    "smoothing": ("smoothing", (L2,), 100, ""),
}
ThreatLevels = Sequence[tuple[float | None, Threat]]  # (eps, threat)


def require_certifiable(
    model: Model, x: Tensor, threats: ThreatLevels, *, methods: Sequence[str]
) -> None:
    """Check that the methods can certify this model and these threats; raise otherwise.

    Arguments:
        x: a few samples `(b, *d)`, b ≥ 1.

    Raises:
        ValueError: for a method that does not exist, fits no threat or can't read the model.
    """
    for name in methods:
        if name not in METHODS:
            raise ValueError(did_you_mean("certify", name, METHODS))
        balls = METHODS[name][1]
        fitting = [threat for _, threat in threats if type(threat) in balls]
        kinds = sorted({type(threat).__name__ for _, threat in threats})
        allowed = " or ".join(ball.__name__ for ball in balls)
        require(fitting, "certify", name, f"left out for {', '.join(kinds)}: it is for {allowed}")
        if name != "smoothing":
            graph.trace_network(model, x[:1])


def certificates(
    model: Model,
    x: Tensor,
    y: Tensor,
    threats: ThreatLevels,
    *,
    methods: Sequence[str] = ("ibp", "crown-ibp"),
    n: int | None = None,
    seed: int = 0,
    sigma: float | None = None,
    draws: int = 1000,
    alpha: float = 0.001,
    robust: Sequence[Tensor] | None = None,
    display: EvaluationProgress | None = None,
) -> list[list[Certificate]]:
    """Return, for each radius, a lower bound on robust accuracy by each method for its norm.

    Arguments:
        x: samples `(b, *d)` in the threats' bounds.
        y: labels `(b,)`.
        threats: the threat at each radius, as (eps, threat).
        n: use the first n samples; default: all for `"ibp"` and `"crown-ibp"`, else 100.
        sigma: noise of smoothing, in input units; default: half of the largest L2 radius.
        draws: noisy copies of each sample.
        alpha: probability that one claim of smoothing is wrong.
        robust: which samples attacks left robust at each radius `(n,)`, for the same rows' accuracy
            and for contradictions.
        display: shows progress.

    Raises:
        ValueError: for a method that does not exist, fits no threat or can't read the model.
    """
    n = fitted(int | None, n, "n", Rules())
    require(n is None or n >= 1, "n", n, "an integer ≥ 1, or None")
    require_certifiable(model, x, threats, methods=methods)
    results: list[list[Certificate]] = [[] for _ in threats]
    for name in methods:
        label, balls, default_n, technique = METHODS[name]
        rows = slice(min(len(x), n or default_n or len(x)))
        levels = [i for i, (_, threat) in enumerate(threats) if type(threat) in balls]
        if name != "smoothing":
            detail = f"proven of the model itself: {technique}"
            for i in levels:
                threat, start = threats[i][1], time.perf_counter()
                title = f"{label} · {type(threat).__name__} {threat.eps:.4g}"
                step = _progress(display, title, len(x[rows]))
                options = {"threat": threat, "method": name, "progress": step}
                proven = certify(model, x[rows], y[rows], **options)
                attacked = None if robust is None else robust[i][rows].to(proven.device)
                results[i].append(_certificate(label, proven, start, detail, attacked))
            continue
        start, radii = time.perf_counter(), {i: float(threats[i][1].eps) for i in levels}  # type: ignore[arg-type]
        noise = (max(radii.values()) / 2 or 0.25) if sigma is None else sigma
        step = _progress(display, f"{label} · σ = {noise:g}", len(x[rows]))
        settings = {"sigma": noise, "draws": draws, "alpha": alpha, "seed": seed, "progress": step}
        # One pass of noise for all radii, since a sample's proven radius serves each.
        radius, pred = smoothing.certify(model, x[rows], **settings)
        detail = (
            f"proven of the smoothed model (its vote under noise of σ = {noise:g}), not of the "
            f"bare one that is attacked: {draws} draws a sample, each claim right with "
            f"probability {1 - alpha:.12g}; {int((pred < 0).sum())} abstained"
        )
        label = f"{label} σ = {noise:g}"
        for i, eps in radii.items():
            proven = (pred == y[rows]) & (radius > eps)
            results[i].append(_certificate(label, proven, start, detail))
    return results


def _progress(display: EvaluationProgress | None, title: str, samples: int) -> Step | None:
    """Start a bar, and return the function that moves it."""
    if display is not None:
        display.begin(title, samples)
    return None if display is None else display.step


def _certificate(
    name: str, proven: Tensor, start: float, detail: str, robust: Tensor | None = None
) -> Certificate:
    share, seconds = wilson(int(proven.sum()), len(proven)), time.perf_counter() - start
    bound = (share.accuracy, share.low, share.high, len(proven), seconds)
    if robust is None:
        return Certificate(name, *bound, detail)
    left, broken = robust.double().mean().item(), int((proven & ~robust).sum())
    detail += f"; on the same {len(proven)} samples the attacks leave {100 * left:.2f} % robust"
    if broken:
        detail += (
            f"; contradiction: {broken} proven samples were broken by allowed points, an error of "
            "sparring: report it"
        )
        warnings.warn(f"{name}: {detail}", SparringWarning, stacklevel=2)
    return Certificate(name, *bound, detail, left, broken)
