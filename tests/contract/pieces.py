"""Every public piece of a room, built with its defaults: a new piece runs its room's battery by
being exported."""

from __future__ import annotations

import functools
import inspect
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sparring.attacks import PGD
from sparring.config import registry
from sparring.methods import MART, TRADES
from sparring.risks import KL
from sparring.threats import L0, L1, L2, Bits, Box, Linf, Threat

# the threat of an attack that knows only some
BALLS = {math.inf: Linf(0.3), 2: L2(1.0), 1: L1(2.0), 0: L0(2), "bits": Bits(3)}

# what every attack is crossed with
THREATS = [Linf(0.1), L2(0.3), L1(0.8), L0(2), Box(), Linf(0.0), L0(0)]
THREATS += [Bits(), Bits(2), Bits(2, add_only=False, mutable=[1, 0, 1, 1, 0, 1]), Bits(0)]


def surrogate(x: Tensor) -> Tensor:
    """Another classifier for the inputs of the battery's problems: as many classes, other w."""
    flat = x.flatten(1)
    k = {6: 4, 16: 3}[flat.shape[1]]
    w = torch.arange(k * flat.shape[1], dtype=flat.dtype).cos().reshape(flat.shape[1], k)
    return 3 * flat @ w


REQUIRED: dict[str, Any] = {  # values of arguments without a default
    "eps": 0.3,
    "radius": 0.1,
    "surrogate": surrogate,
    "attack": PGD(Linf(0.1), steps=3),
}
REQUIRED_BY: dict[str, dict[str, Any]] = {  # those of one piece, which come first
    "L0": {"eps": 2},
    "Transport": {"scale": 0.3},
    "SoftLinf": {"radius": 0.3},
    "Only": {"of": Linf(0.3), "classes": [1, 2]},
    "Rounded": {"of": Linf(0.3)},
    "Joint": {"of": L2(0.3), "scale": 0.5, "delta": 0.4, "classes": 3},
    "FeatureSparsity": {"site": "1"},
    "SemiSupervised": {"of": MART(), "unlabelled": TRADES()},
    "UAD": {"sites": [], "reference": "none"},  # without spreads over the batch: its own tests
    "PerClass": {"of": KL(), "classes": [1]},
}
NOTES: dict[str, dict[str, tuple[int, ...]]] = {  # shapes, per row, of the numbers a method draws
    "Sparsity": {"zeta": (1, 6), "zeta_adv": (1, 6)},
    "FeatureSparsity": {"xi": (1, 12), "zeta": (2, 1, 12)},
}
LITTLE_WORK = {"queries": 100, "steps": 10}  # at most: defaults take long


def every(room: str, argument: str = "name") -> pytest.MarkDecorator:
    """Parametrise a test over the names of a room's pieces."""
    return pytest.mark.parametrize(argument, list(registry.pieces(room)))


def make(room: str, name: str, **more: Any) -> Any:
    """Build the piece called `name` from its defaults, its required arguments and `more`."""
    maker = registry.pieces(room)[name]
    threat = more.pop("threat", None) or BALLS[norms(room, name)[0]]
    values = {**REQUIRED, **REQUIRED_BY.get(name, {}), "threat": threat}
    needed = {
        n: values[n]
        for n, p in inspect.signature(maker).parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    return maker(**{**needed, **more})


def make_quick(room: str, name: str, **more: Any) -> Any:
    """As `make`, with little work for it to do."""
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(registry.pieces(room)[name]).parameters.items()
        if key in LITTLE_WORK
    }
    few = {key: LITTLE_WORK[key] for key, n in defaults.items() if _is_more(n, LITTLE_WORK[key])}
    return make(room, name, **{**few, **more})


def _is_more(default: Any, least: int) -> bool:
    """Return whether a default, or none at all, may be more work than this."""
    return not isinstance(default, int) or default > least


def norms(room: str, name: str) -> tuple[float | str, ...]:
    """Return the balls a piece works in, by their p, its first choice first."""
    return getattr(registry.pieces(room)[name], "norms", (math.inf,))


def takes(room: str, name: str, argument: str) -> bool:
    """Return whether a piece has this argument."""
    return argument in inspect.signature(registry.pieces(room)[name]).parameters


def drawn_notes(name: str, x: Tensor) -> dict[str, Tensor]:
    """Draw the notes of a method that needs some, so that two calls on the same rows compare."""
    draw = torch.Generator().manual_seed(7)
    return {
        note: torch.randn(len(x), *shape, generator=draw, dtype=x.dtype)
        for note, shape in NOTES.get(name, {}).items()
    }


@functools.cache
def attack_pairs() -> tuple[list[tuple[str, Threat]], list[tuple[str, Threat]]]:
    """Cross attacks with `THREATS`: the pairs that can be built, and those that are refused.

    An attack that takes any threat and does not claim to end at bits is in neither with bits.
    """
    fitting, refused = [], []
    for name in registry.pieces("attack"):
        for threat in THREATS:
            try:
                make_quick("attack", name, threat=threat)
            except ValueError:
                refused.append((name, threat))
            else:
                if not threat.binary or "bits" in norms("attack", name):
                    fitting.append((name, threat))
    return fitting, refused


def fitting_pairs(*, climbing: bool = False) -> list[Any]:
    """Return (attack, threat) of what fits; `climbing`: without attacks that only draw points."""
    return _params(
        (name, threat)
        for name, threat in attack_pairs()[0]
        if not climbing or takes("attack", name, "steps") or not takes("attack", name, "draws")
    )


def refused_pairs() -> list[Any]:
    """Return (attack, threat) of what an attack's constructor refuses."""
    return _params(attack_pairs()[1])


def _params(pairs: Any) -> list[Any]:
    return [pytest.param(name, threat, id=f"{name}-{threat!r}") for name, threat in pairs]
