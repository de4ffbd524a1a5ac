"""The threats of an evaluation: one for each norm and radius."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..component import require
from ..runtime.annotations import AnyReal, Rules, fitted
from ..threats import norm_ball, norm_name
from ..threats.base import Threat

Threats = str | float | Threat | Sequence[str | float | Threat] | Mapping[str, Any]
Eps = AnyReal | Sequence[AnyReal] | None
Radius = tuple[float | None, Threat]


def threats_at_radii(threat: Threats, eps: Any, bounds: tuple[float, float] | None) -> list[Radius]:
    """Return (eps, threat) for each radius, rising, norm by norm; eps is None where the threat has
    no radius, or an infinite one.

    Arguments:
        threat: a norm's name or p, then in the data's bounds, or a threat; several of them; or a
            table of names with their own radii.
        eps: radii in input units, for each norm, as 0.1 or "8/255"; default: the threat's own.

    >>> [(e, t.eps) for e, t in threats_at_radii({"Linf": [0.2, 0.1], "L2": 1.0}, None, None)]
    [(0.1, 0.1), (0.2, 0.2), (1.0, 1.0)]
    """
    if isinstance(threat, Mapping):
        require(eps is None, "eps", eps, "left out: the table of threats has the radii")
        return [r for name, value in threat.items() for r in _at_radii(name, value, bounds)]
    several: list[Any] = list(threat) if isinstance(threat, list | tuple) else [threat]
    require(several, "threat", threat, "one or more threats")
    radii = [r for norm_or_threat in several for r in _at_radii(norm_or_threat, eps, bounds)]
    names = [(type(t).__name__, e) for e, t in radii]
    require(len(set(names)) == len(names), "threat", [n for n, _ in names], "each another norm")
    return radii


def _at_radii(
    threat: str | float | Threat, eps: Eps, bounds: tuple[float, float] | None
) -> list[Radius]:
    flips = isinstance(threat, Threat) and threat.binary
    allowed = "whole numbers of flips ≥ 0, or inf" if flips else "one or more radii ≥ 0"
    values = None if eps is None else _numbers(eps)
    if values is not None:
        ok = (
            e >= 0 and (e == math.inf or e.is_integer() if flips else e < math.inf) for e in values
        )
        require(values and all(ok), "eps", eps, allowed)
    if not isinstance(threat, Threat):
        threat = norm_name(threat)
        require(values, "eps", eps, f"given, in input units: the radii of the {threat} ball")
        low, high = bounds or (0.0, 1.0)
        return [(e, norm_ball(threat, eps=e, low=low, high=high)) for e in values or ()]
    if threat.eps is None:
        require(values is None, "eps", eps, f"left out: {type(threat).__name__} has no radius")
        return [(None, threat)]
    values = [float(threat.eps)] if values is None else values
    return [(e if e < math.inf else None, _with_eps(threat, e)) for e in values]


def _numbers(eps: Any) -> list[float]:
    """Return radii, rising, each once, from one number, a fraction as "8/255", or several."""
    several = fitted(AnyReal | Sequence[AnyReal], eps, "eps", Rules(finite=False))
    several = several if isinstance(several, Sequence) else [several]
    return sorted({float(e) for e in several})


def check_reachable(radii: Sequence[Radius], shape: Sequence[int]) -> None:
    """Raise a `ValueError` for a threat that does not fit samples of this shape, or a ball that
    holds the whole box, as 8 in place of 8/255 does.

    >>> check_reachable(threats_at_radii("Linf", 8, None), (1, 28, 28))
    Traceback (most recent call last):
    ValueError: eps = 8.0 is not allowed: eps must be at most 1, the width of the box ... (8/255?)
    """
    for _, threat in radii:
        threat.check_reachable(shape, by_row=True)


def _with_eps(threat: Threat, eps: float) -> Threat:
    threat = copy.deepcopy(threat)
    threat.eps = eps  # type: ignore[assignment]
    return threat
