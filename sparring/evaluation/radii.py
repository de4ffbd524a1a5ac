"""The threats of an evaluation: one for each norm and radius."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..component import did_you_mean, require
from ..runtime.numbers import real_number
from ..threats import NORMS, norm_ball
from ..threats.base import Threat

Threats = str | Threat | Sequence[str | Threat] | Mapping[str, Any]
Eps = float | Sequence[float] | None  # a recipe makes numbers of texts; Python takes "8/255" too
Radius = tuple[float | None, Threat]


def threats_at_radii(threat: Threats, eps: Any, bounds: tuple[float, float] | None) -> list[Radius]:
    """Return (eps, threat) for each radius, rising, norm by norm; eps is None where the threat has
    no radius, or an infinite one.

    Arguments:
        threat: a norm's name, then in the data's bounds, or a threat; several of them; or a table
            of names with their own radii.
        eps: radii in input units, for each norm, as 0.1 or "8/255"; default: the threat's own.

    >>> [(e, t.eps) for e, t in threats_at_radii({"Linf": [0.2, 0.1], "L2": 1.0}, None, None)]
    [(0.1, 0.1), (0.2, 0.2), (1.0, 1.0)]
    """
    if isinstance(threat, Mapping):
        require(eps is None, "eps", eps, "left out: the table of threats has the radii")
        return [r for name, value in threat.items() for r in _at_radii(name, value, bounds)]
    several: list[Any] = list(threat) if isinstance(threat, list | tuple) else [threat]
    kinds = all(isinstance(one, str | Threat) for one in several)
    require(kinds, "threat", threat, "a norm, a threat, several, or a table of norms and radii")
    require(several, "threat", threat, "one or more threats")
    radii = [r for norm_or_threat in several for r in _at_radii(norm_or_threat, eps, bounds)]
    names = [(type(t).__name__, e) for e, t in radii]
    require(len(set(names)) == len(names), "threat", [n for n, _ in names], "each another norm")
    return radii


def _at_radii(threat: str | Threat, eps: Any, bounds: tuple[float, float] | None) -> list[Radius]:
    flips = isinstance(threat, Threat) and threat.binary
    allowed = "whole numbers of flips ≥ 0, or inf" if flips else "one or more radii ≥ 0"
    values = None if eps is None else _numbers(eps, allowed)
    if values is not None:
        ok = (
            e >= 0 and (e == math.inf or e.is_integer() if flips else e < math.inf) for e in values
        )
        require(values and all(ok), "eps", eps, allowed)
    if isinstance(threat, str):
        if threat not in NORMS:
            raise ValueError(did_you_mean("threat", threat, NORMS))
        require(values, "eps", eps, f"given, in input units: the radii of the {threat} ball")
        low, high = bounds or (0.0, 1.0)
        return [(e, norm_ball(threat, eps=e, low=low, high=high)) for e in values or ()]
    if threat.eps is None:
        require(values is None, "eps", eps, f"left out: {type(threat).__name__} has no radius")
        return [(None, threat)]
    values = [float(threat.eps)] if values is None else values
    return [(e if e < math.inf else None, _with_eps(threat, e)) for e in values]


def _numbers(eps: Any, allowed: str) -> list[float]:
    """Return radii, rising, each once, from one number, a fraction as "8/255", or several."""
    if isinstance(eps, np.ndarray | Tensor):
        eps = eps.tolist()
    several = isinstance(eps, Iterable) and not isinstance(eps, str)
    return sorted({real_number("eps", e, allowed=allowed) for e in (eps if several else [eps])})


def check_reachable(radii: Sequence[Radius], shape: Sequence[int]) -> None:
    """Raise a `ValueError` for a ball that holds the whole box, as 8 in place of 8/255 does.

    >>> check_reachable(threats_at_radii("Linf", 8, None), (1, 28, 28))
    Traceback (most recent call last):
    ValueError: eps = 8.0 is not allowed: eps must be at most 1, the width of the box ... (8/255?)
    """
    for eps, threat in radii:
        p, width = getattr(threat, "p", None), threat.high - threat.low
        if eps is None or p is None:
            continue
        largest = math.prod(shape) ** (1 / p if p else 1) * (width if p else 1)
        hint = f" ({eps:g}/255?)" if width == 1 and eps <= 255 and p == math.inf else ""
        allowed = f"at most {largest:.4g}, the width of the box in {type(threat).__name__}{hint}"
        require(eps <= largest, "eps", eps, allowed)


def _with_eps(threat: Threat, eps: float) -> Threat:
    threat = copy.deepcopy(threat)
    threat.eps = eps  # type: ignore[assignment]
    return threat
