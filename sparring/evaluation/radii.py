"""What is evaluated: samples with their bounds and names, and the threat at each radius."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..component import did_you_mean, require
from ..threats import NORMS, norm_ball
from ..threats.base import Threat

Threats = str | Threat | Sequence[str | Threat] | Mapping[str, float | Sequence[float]]


Radii = float | Sequence[float] | None


Level = tuple[float | None, Threat]


def radii(threat: Threats, eps: Radii, bounds: tuple[float, float] | None) -> list[Level]:
    """The threat at each radius, rising, norm by norm; without a radius, or with an endless one, as
    (None, threat).

    Arguments:
        threat: a norm's name, then in the data's bounds, or a threat; several of them; or a table
            of names with their own radii.
        eps: radii in input units, of each norm; the threat's own where omitted.

    >>> [(e, t.eps) for e, t in radii({"Linf": [0.2, 0.1], "L2": 1.0}, None, None)]
    [(0.1, 0.1), (0.2, 0.2), (1.0, 1.0)]
    """
    if isinstance(threat, Mapping):
        require(eps is None, "eps", eps, "left out: the table of threats has the radii")
        return [level for name, own in threat.items() for level in _radii(name, own, bounds)]
    several = [threat] if isinstance(threat, str | Threat) else list(threat)
    require(several, "threat", threat, "one or more threats")
    found = [level for one in several for level in _radii(one, eps, bounds)]
    names = [(type(t).__name__, e) for e, t in found]
    require(len(set(names)) == len(names), "threat", [n for n, _ in names], "each another norm")
    return found


def _radii(threat: str | Threat, eps: Radii, bounds: tuple[float, float] | None) -> list[Level]:
    asked = None if eps is None else sorted(set(np.atleast_1d(np.asarray(eps, float)).tolist()))
    flips = isinstance(threat, Threat) and threat.binary
    if asked is not None:
        ok = (
            e >= 0 and (e == math.inf or e.is_integer() if flips else e < math.inf) for e in asked
        )
        allowed = "whole numbers of flips ≥ 0, or inf" if flips else "one or more radii ≥ 0"
        require(asked and all(ok), "eps", eps, allowed)
    if isinstance(threat, str):
        if threat not in NORMS:
            raise ValueError(did_you_mean("threat", threat, NORMS))
        require(asked, "eps", eps, f"given, in input units: the radii of the {threat} ball")
        low, high = bounds or (0.0, 1.0)
        return [(e, norm_ball(threat, eps=e, low=low, high=high)) for e in asked or ()]
    own = threat.eps
    if own is None:
        require(asked is None, "eps", eps, f"left out: {type(threat).__name__} has no radius")
        return [(None, threat)]
    found = [float(own)] if asked is None else asked
    return [(e if e < math.inf else None, _at(threat, e)) for e in found]


def reachable(levels: Sequence[Level], shape: Sequence[int]) -> None:
    """Raise a `ValueError` for a radius that holds the whole box, as 8 for 8/255 does.

    >>> reachable(radii("Linf", 8, None), (1, 28, 28))
    Traceback (most recent call last):
    ValueError: eps = 8.0 is not allowed: eps must be at most 1, the width of the box ... (8/255?)
    """
    for eps, threat in levels:
        p, wide = getattr(threat, "p", None), threat.high - threat.low
        if eps is None or p is None:
            continue
        most = math.prod(shape) ** (1 / p if p else 1) * (wide if p else 1)
        hint = f" ({eps:g}/255?)" if wide == 1 and eps <= 255 and p == math.inf else ""
        allowed = f"at most {most:.4g}, the width of the box in {type(threat).__name__}{hint}"
        require(eps <= most, "eps", eps, allowed)


def _at(threat: Threat, eps: float) -> Threat:
    found = copy.deepcopy(threat)
    found.eps = eps  # type: ignore[assignment]
    return found
