"""The threats of an evaluation: one for each norm and radius, and what the norms are called."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..component import arguments, require
from ..results.result import correct_key
from ..runtime.annotations import AnyReal, Rules, fitted
from ..runtime.identity import model_hash
from ..threats import norm_ball, norm_name
from ..threats.base import Threat, ThreatWrapper

Threats = str | float | Threat | Sequence[str | float | Threat] | Mapping[str, Any]
Eps = AnyReal | Sequence[AnyReal] | None
Radius = tuple[float | None, Threat]
NOT_OF_THE_SET = ("eps", "init", "noise")  # the radius, and where a search starts


class Norm(NamedTuple):
    """Name a threat's norm in an evaluation, and number it where the radius is its largest."""

    name: str
    number: int | None = None


def norms_of(threats: Sequence[Threat]) -> list[Norm]:
    """Return the norm of each threat of an evaluation.

    >>> from sparring.threats import L2, Linf
    >>> [tuple(norm) for norm in norms_of([Linf(0.1), Linf(0.2), L2(1.0)])]
    [('Linf', None), ('Linf', 0), ('L2', 1)]
    """
    names = norm_names(threats)
    order = list(dict.fromkeys(names))
    return [
        Norm(name, None if name in names[i + 1 :] else order.index(name))
        for i, name in enumerate(names)
    ]


def norm_names(threats: Sequence[Threat]) -> list[str]:
    """Return the name of each threat's norm: its class, with what it wraps where wrappers of that
    class wrap several.

    >>> from sparring.threats import L2, Linf, Rounded
    >>> norm_names([Rounded(Linf(0.1)), Rounded(L2(1)), Linf(0.1)])
    ['Rounded-Linf', 'Rounded-L2', 'Linf']
    >>> norm_names([Rounded(Linf(0.1)), Linf(0.1)])
    ['Rounded', 'Linf']
    """
    names = [(type(threat).__name__, _full_name(threat)) for threat in threats]
    # The class alone where it is enough: by that name results of one wrapper are compared.
    return [
        full if len({other for kind, other in names if kind == name}) > 1 else name
        for name, full in names
    ]


def _full_name(threat: Threat) -> str:
    # joined by what the name of a result's array may have
    inner = f"-{_full_name(threat.of)}" if isinstance(threat, ThreatWrapper) else ""
    return f"{type(threat).__name__}{inner}"


def threats_at_radii(threat: Threats, eps: Any, bounds: tuple[float, float] | None) -> list[Radius]:
    """Return (eps, threat) for each radius, rising, norm by norm; eps is None where the threat has
    no radius, or an infinite one. Radii that a threat or a result takes for one are given once.

    Arguments:
        threat: a norm's name or p, then in the data's bounds, or a threat; several of them; or a
            table of names with their own radii.
        eps: radii in input units, for each norm, as 0.1 or "8/255"; default: the threat's own.

    Raises:
        ValueError: for a radius that the threat's constructor refuses, a norm given twice, threats
            that have one name and allow different points, or threats of different bounds.

    >>> [(e, t.eps) for e, t in threats_at_radii({"Linf": [0.2, 0.1], "L2": 1.0}, None, None)]
    [(0.1, 0.1), (0.2, 0.2), (1.0, 1.0)]
    """
    if isinstance(threat, Mapping):
        require(eps is None, "eps", eps, "left out: the table of threats has the radii")
        given = [(n if isinstance(n, Threat) else norm_name(n), v) for n, v in threat.items()]
        once = len({norm for norm, _ in given}) == len(given)
        require(once, "threat", [*threat], "each another norm")
    else:
        several: list[Any] = list(threat) if isinstance(threat, list | tuple) else [threat]
        given = [(one, eps) for one in several]
    require(given, "threat", threat, "one or more threats")
    at_radii = _norm_by_norm([_at_radii(one, radii, bounds) for one, radii in given])
    boxes = sorted({(float(one.low), float(one.high)) for _, one in at_radii})
    # the guard checks every point against one pair of bounds
    require(len(boxes) == 1, "threat's bounds", boxes, "one pair for all: evaluate them one by one")
    return at_radii


def _norm_by_norm(parts: Sequence[list[Radius]]) -> list[Radius]:
    """Return the radii of all threats given, norm by norm, rising: the last is the largest."""
    groups: dict[str, list[list[Radius]]] = {}
    for name, part in zip(norm_names([part[0][1] for part in parts]), parts, strict=True):
        groups.setdefault(name, []).append(part)
    for name, group in groups.items():
        _check_norm(name, group)
    return [
        radius
        for group in groups.values()
        for radius in sorted((r for part in group for r in part), key=_order)
    ]


def _check_norm(name: str, parts: Sequence[list[Radius]]) -> None:
    """Raise a `ValueError` if threats of one name differ in more than the radius, or in nothing:
    the worst case takes the largest radius of a name for all of them."""
    given = [part[0][1] for part in parts]
    alike = len(parts) == 1 or len({model_hash(_points(one)) for one in given}) == 1  # type: ignore[arg-type]
    allowed = f"evaluated one by one: all are called {name}, and they allow different points"
    require(alike, "threat", given, allowed)
    keys = [correct_key(eps) for part in parts for eps, _ in part]
    require(len(set(keys)) == len(keys), "threat", [name] * len(keys), "each another norm")


def _points(threat: Threat) -> dict[str, Any]:
    """Return what decides, beside the radius, which points a threat allows."""
    config = {k: v for k, v in threat.config().items() if k not in NOT_OF_THE_SET}
    table = {k: _points(v) if isinstance(v, Threat) else v for k, v in config.items()}
    return {"class": f"{type(threat).__module__}.{type(threat).__qualname__}", **table}


def _order(radius: Radius) -> float:
    return math.inf if radius[0] is None else radius[0]


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
        return _each_once(norm_ball(threat, eps=e, low=low, high=high) for e in values or ())
    if threat.eps is None:
        require(values is None, "eps", eps, f"left out: {type(threat).__name__} has no radius")
        return [(None, threat)]
    values = [float(threat.eps)] if values is None else values
    return _each_once(_with_eps(threat, e) for e in values)


def _each_once(threats: Iterable[Threat]) -> list[Radius]:
    """Return threats with their radii; of several radii that a result writes alike, the first.

    A threat may take two radii for one, as `Rounded` does, and a result has 12 digits of them.
    """
    radii: dict[str, Radius] = {}
    for threat in threats:
        eps = None if threat.eps == math.inf else threat.eps
        radii.setdefault(correct_key(eps), (eps, threat))
    return [*radii.values()]


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
    _check_radius(threat, eps)
    threat = copy.deepcopy(threat)
    threat.eps = eps  # type: ignore[assignment]
    return threat


def _check_radius(threat: Threat, eps: float) -> None:
    """Raise the `ValueError` of the constructor for a radius: an attribute is set unchecked."""
    while isinstance(threat, ThreatWrapper):
        threat = threat.of
    config = threat.config()
    # a class of the user's that does not keep its arguments can't be made again
    if "eps" in config and config.keys() == arguments(type(threat)).keys():
        type(threat)(**config | {"eps": eps})
