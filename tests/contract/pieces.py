"""Every public piece of a room, built with its defaults: a new piece runs its room's battery by
being exported."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest

from sparring import schema
from sparring.threats import L1, L2, Linf

BALLS = {math.inf: Linf(0.3), 2: L2(1.0), 1: L1(2.0)}  # for an attack that needs a certain one
GIVEN: dict[str, Any] = {"eps": 0.3}  # what has no default


def every(room: str, argument: str = "name") -> pytest.MarkDecorator:
    """Parametrise a test over the names of a room's pieces."""
    return pytest.mark.parametrize(argument, list(schema.pieces(room)))


def make(room: str, name: str, **more: Any) -> Any:
    """The piece called `name`, with its defaults, its required arguments and `more`."""
    maker = schema.pieces(room)[name]
    fits = BALLS[getattr(maker, "norms", (math.inf,))[0]]
    given = {**GIVEN, "threat": more.pop("threat", None) or fits}
    wanted = inspect.signature(maker).parameters
    needed = {
        n: given[n]
        for n, p in wanted.items()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    return maker(**{**needed, **more})


def takes(room: str, name: str, argument: str) -> bool:
    """Whether a piece has this argument."""
    return argument in inspect.signature(schema.pieces(room)[name]).parameters
