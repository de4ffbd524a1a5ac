"""The ranges of a training's numbers: counts, the seed, clipping and the optimizer's keywords."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from ..component import require, require_at_least

COUNTS = ("epochs", "batch_size", "every", "rows", "save_every")
TIMES = ("seconds", "save_seconds")
AMP = ("float32", "bfloat16")
Range = tuple[Callable[[float], bool], str]

POSITIVE: Range = (lambda v: 0 < v < math.inf, "a finite number > 0")
NOT_NEGATIVE: Range = (lambda v: 0 <= v < math.inf, "a finite number ≥ 0")
SHARE: Range = (lambda v: 0 <= v < 1, "in [0, 1)")
FINITE: Range = (math.isfinite, "a finite number")
OPTIMIZER: dict[str, Range] = {  # keywords of PyTorch's optimizers; other numbers are finite
    "lr": POSITIVE,
    **dict.fromkeys(("momentum", "betas"), SHARE),
    **dict.fromkeys(("alpha", "rho", "dampening"), (lambda v: 0 <= v <= 1, "in [0, 1]")),
    **dict.fromkeys(("weight_decay", "lr_decay", "initial_accumulator_value"), NOT_NEGATIVE),
    "eps": NOT_NEGATIVE,
}


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a real number, numpy's too, and no truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_numbers(settings: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a count, a time, `clip`, `amp` or `compile` of a training that is out
    of its range."""
    require_at_least(1, **{key: settings[key] for key in COUNTS if settings.get(key) is not None})
    for key in TIMES:
        value = settings.get(key)
        ok = value is None or (is_number(value) and POSITIVE[0](value))
        require(ok, key, value, "a finite number of seconds > 0")
    check_passes(settings)
    check_clip(settings.get("clip"))
    compiled = settings.get("compile", False)
    ok = isinstance(compiled, bool) or compiled == "all"
    require(ok, "compile", compiled, 'false, true (for the attack), or "all" (for the loss too)')
    amp = settings.get("amp")
    require(amp in (None, *AMP), "amp", amp, "one of " + ", ".join(AMP))


def check_passes(settings: Mapping[str, Any]) -> None:
    """Raise `ValueError` for `passes` out of its range, or beside what it does not go with."""
    passes = settings.get("passes")
    if passes is None:
        return
    ok = is_number(passes) and POSITIVE[0](passes)
    require(ok, "passes", passes, "a finite number of passes > 0")
    require(settings.get("seconds") is None, "passes", passes, "left out beside seconds")
    allowed = "left out beside compile: a compiled model's operations are not counted"
    require(not settings.get("compile"), "passes", passes, allowed)


def check_clip(clip: Any) -> None:
    """Raise `ValueError` unless `clip` is None or a finite norm above 0."""
    ok = clip is None or (is_number(clip) and POSITIVE[0](clip))
    require(ok, "clip", clip, "a finite norm > 0, or None")


def check_optimizer(kind: type, keywords: Mapping[str, Any], path: str = "optimizer") -> None:
    """Raise `ValueError` for a keyword of an optimizer that is no number or out of its range.

    Arguments:
        kind: a class of `torch.optim`; its defaults show which keywords are numbers.
        path: of the table of keywords, for messages.
    """
    parameters = inspect.signature(kind).parameters
    for key, value in keywords.items():
        default = parameters[key].default
        is_in_range, allowed = OPTIMIZER.get(key, FINITE)
        if isinstance(default, bool):
            require(isinstance(value, bool), f"{path}.{key}", value, "true or false")
        elif is_number(default):
            ok = is_number(value) and is_in_range(value)
            require(ok, f"{path}.{key}", value, allowed)
        elif isinstance(default, tuple):
            ok = isinstance(value, tuple) and len(value) == len(default)
            # None among the defaults, as in Adafactor's eps, is a value of its own
            ok = ok and all(
                (v is None and d is None) or (is_number(v) and is_in_range(v))
                for v, d in zip(value, default, strict=True)
            )
            require(ok, f"{path}.{key}", value, f"{len(default)} numbers, each {allowed}")
