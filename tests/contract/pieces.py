"""Every public piece of a room, built with its defaults: a new piece runs its room's battery by
being exported."""

from __future__ import annotations

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
from sparring.threats import L0, L1, L2, Bits, Linf

# for an attack that needs a certain one
BALLS = {math.inf: Linf(0.3), 2: L2(1.0), 1: L1(2.0), 0: L0(2), "bits": Bits(3)}


def surrogate(x: Tensor) -> Tensor:
    """Another classifier for the inputs of the battery's problems: as many classes, its own w."""
    flat = x.flatten(1)
    k = {6: 4, 16: 3}[flat.shape[1]]
    w = torch.arange(k * flat.shape[1], dtype=flat.dtype).cos().reshape(flat.shape[1], k)
    return 3 * flat @ w


GIVEN: dict[str, Any] = {  # what has no default
    "eps": 0.3,
    "radius": 0.1,
    "surrogate": surrogate,
    "attack": PGD(Linf(0.1), steps=3),
}
OWN: dict[str, dict[str, Any]] = {  # and of a piece that takes no such number, or another
    "L0": {"eps": 2},
    "Transport": {"scale": 0.3},
    "SoftLinf": {"radius": 0.3},
    "Only": {"of": Linf(0.3), "classes": [1, 2]},
    "Joint": {"of": L2(0.3), "scale": 0.5, "delta": 0.4, "classes": 3},
    "FeatureSparsity": {"site": "1"},
    "SemiSupervised": {"of": MART(), "unlabelled": TRADES()},
    "UAD": {"sites": [], "reference": "none"},  # without spreads over the batch: its own tests
    "PerClass": {"of": KL(), "classes": [1]},
}
NOTES: dict[str, dict[str, tuple[int, ...]]] = {  # what a method would draw: notes' shapes a row
    "Sparsity": {"zeta": (1, 6), "zeta_adv": (1, 6)},
    "FeatureSparsity": {"xi": (1, 12), "zeta": (2, 1, 12)},
}
FEW = {"queries": 100}  # instead of a default that takes long


def every(room: str, argument: str = "name") -> pytest.MarkDecorator:
    """Parametrise a test over the names of a room's pieces."""
    return pytest.mark.parametrize(argument, list(registry.pieces(room)))


def make(room: str, name: str, **more: Any) -> Any:
    """The piece called `name`, with its defaults, its required arguments and `more`."""
    maker = registry.pieces(room)[name]
    fits = BALLS[norms(room, name)[0]]
    given = {**GIVEN, **OWN.get(name, {}), "threat": more.pop("threat", None) or fits}
    wanted = inspect.signature(maker).parameters
    needed = {
        n: given[n]
        for n, p in wanted.items()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    return maker(**{**needed, **more})


def drawn(name: str, x: Tensor) -> dict[str, Tensor]:
    """The notes of a method that draws numbers, so that two calls on the same rows compare."""
    draw = torch.Generator().manual_seed(7)
    return {
        note: torch.randn(len(x), *shape, generator=draw, dtype=x.dtype)
        for note, shape in NOTES.get(name, {}).items()
    }


def quick(room: str, name: str, **more: Any) -> Any:
    """As `make`, with little work for it to do."""
    few = {argument: n for argument, n in FEW.items() if takes(room, name, argument)}
    return make(room, name, **{**few, **more})


def norms(room: str, name: str) -> tuple[float, ...]:
    """The balls a piece works in, by their p, its first choice first."""
    return getattr(registry.pieces(room)[name], "norms", (math.inf,))


def takes(room: str, name: str, argument: str) -> bool:
    """Whether a piece has this argument."""
    return argument in inspect.signature(registry.pieces(room)[name]).parameters
