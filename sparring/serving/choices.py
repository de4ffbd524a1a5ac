"""List the threats and attacks that a page offers, and check what a person chose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..component import did_you_mean, require
from ..evaluation.announce import PASSES
from ..evaluation.suites import SUITES, Suite
from ..runtime.fractions import parse_number
from ..threats import NORMS, Rounded, norm_ball
from ..threats.base import Ball, Threat
from .served import ServedModel

# The first choice of a norm whose radius no recipe names; in input units, L0 in pixels.
DEFAULT_EPS = {"Linf": "8/255", "L2": "0.5", "L1": "10", "L0": "10"}
WHOLE = ("L0",)  # norms whose radius is a count
RADII = 8  # of the curve: eps/8, 2·eps/8, …, eps
EPS_LETTERS = 40


class Setting(NamedTuple):
    """Hold what a person chose: norm of the ball, radius in input units, and attacks."""

    norm: str
    eps: float
    suite: Suite

    def radii(self) -> list[float]:
        """Return the radii of the curve, rising to eps."""
        values = [self.eps * k / RADII for k in range(1, RADII + 1)]
        if self.norm in WHOLE:
            values = [float(math.floor(value)) for value in values]
        return sorted({value for value in values if value > 0})

    def threat(self, eps: float) -> Threat:
        """Return the ball of a radius, whose points are those of a file of 8 bits."""
        return _file_ball(self.norm, eps)


def attacks_for(norm: str) -> dict[str, Suite]:
    """Return the suites, and the single attacks, that search the ball of a norm; by name.

    >>> list(attacks_for("L0"))[:3]
    ['quick', 'pgd', 'from-x']
    """
    ball = _file_ball(norm, 0.0)
    suites = {name: s for name, s in SUITES.items() if any(e.supports(ball) for e in s.entries)}
    single = {
        entry.label: Suite(entry.label, 1, (entry,), about=f"{entry.label} alone")
        for entry in SUITES["all"].entries
        if entry.supports(ball)
    }
    return suites | single


def setting(threat: Any, eps: Any, attack: Any, served: Sequence[ServedModel]) -> Setting:
    """Return what a person chose, checked for each model.

    Raises:
        ValueError: for a name that does not exist, or a radius that is no number > 0, or larger
            than the box of a model.
    """
    # JSON has lists and tables too, which no table of names can look up.
    if not isinstance(threat, str) or threat not in NORMS:
        raise ValueError(did_you_mean("threat", str(threat), NORMS))
    known = attacks_for(threat)
    if not isinstance(attack, str) or attack not in known:
        raise ValueError(did_you_mean("attack", str(attack), known))
    radius = _number(eps)
    chosen = Setting(threat, radius, known[attack])
    for one in served:
        chosen.threat(radius).check_reachable(one.shape)
    return chosen


def _number(eps: Any) -> float:
    """Return a radius > 0, from a number or a text such as "8/255"."""
    allowed = "a radius > 0 in input units, such as 0.1 or 8/255"
    is_number = isinstance(eps, int | float) and not isinstance(eps, bool)
    require(is_number or isinstance(eps, str), "eps", eps, allowed)
    require(len(str(eps)) <= EPS_LETTERS, "eps", eps, allowed)
    try:
        value = parse_number(str(eps))
    except ValueError:
        value = 0.0
    require(0 < value < float("inf"), "eps", eps, allowed)
    return value


def _file_ball(norm: str, eps: float) -> Threat:
    """Return a ball whose points are those of a file of 8 bits."""
    ball = norm_ball(norm, eps=eps)
    assert isinstance(ball, Ball)
    return Rounded(ball)


def menu(norm: str) -> list[dict[str, Any]]:
    """Return the attacks of a norm as JSON: name, what it is, and its forward passes if known."""
    ball = _file_ball(norm, 0.0)
    return [
        {
            "name": name,
            "about": suite.description,
            "passes": sum(PASSES.get(entry.label, 0) for entry in suite.entries_for(ball)),
            "suite": name in SUITES,
        }
        for name, suite in attacks_for(norm).items()
    ]
