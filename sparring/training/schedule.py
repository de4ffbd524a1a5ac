"""Schedules: pure functions of progress in [0, 1], bound to the path of a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from ..objective import Objective
from ..part import Part, assign, nearest, read, require


def one_cycle(t: float, base: float, *, warmup: float = 0.3, start: float = 0.04, end: float = 1e-5) -> float:
    """Cosine from start·base up to base during `warmup` (a share of training), then cosine down to end·base.

    Source: Smith and Topin 2019, in the two-phase form of `torch.optim.lr_scheduler.OneCycleLR`.

    >>> one_cycle(0.3, 1.0), round(one_cycle(0.0, 1.0), 3)
    (1.0, 0.04)
    """
    require(0 <= warmup < 1, "warmup", warmup, "a share of training in [0, 1)")
    low, share = (start, 1 - t / warmup) if t < warmup else (end, (t - warmup) / (1 - warmup))
    return base * (low + (1 - low) * (1 + math.cos(math.pi * share)) / 2)


def cosine(t: float, base: float, *, warmup: float = 0.0, end: float = 0.0) -> float:
    """Linear from 0 to base during `warmup`, then half a cosine down to end·base.

    >>> cosine(0.0, 2.0), round(cosine(1.0, 2.0), 6)
    (2.0, 0.0)
    """
    require(0 <= warmup < 1, "warmup", warmup, "a share of training in [0, 1)")
    if t < warmup:
        return base * t / warmup
    return base * (end + (1 - end) * (1 + math.cos(math.pi * (t - warmup) / (1 - warmup))) / 2)


def piecewise(
    t: float,
    base: float,
    *,
    epochs: int,
    at: Sequence[float] = (),
    factor: float = 0.1,
    values: Sequence[float] | None = None,
) -> float:
    """Multiply by `factor` at the beginning of each epoch (counted from 1) in `at`; or take `values` in turn.

    >>> piecewise(0.5, 1.0, epochs=10, at=[6, 9]), piecewise(0.5, 1.0, epochs=10, at=[6], values=[7.0])
    (0.1, 7.0)
    """
    require(values is None or len(values) == len(at), "values", values, f"as many as at = {list(at)}")
    passed = sum(t * epochs >= a - 1 - 1e-9 for a in at)
    return base * factor**passed if values is None else [base, *values][passed]


def warm_up(t: float, base: float, *, epochs: int, length: float = 1.0, start: float = 0.0) -> float:
    """Linear from start·base to base over the first `length` epochs, then constant.

    >>> warm_up(0.05, 1.0, epochs=10)
    0.5
    """
    return ramp(t, base, until=length / epochs, start=start)


def ramp(t: float, base: float, *, until: float = 0.5, start: float = 0.0) -> float:
    """Linear from start·base to base until that share of training, then constant: the usual ε-ramp.

    >>> ramp(0.25, 8.0), ramp(0.9, 8.0)
    (4.0, 8.0)
    """
    return base * (start + (1 - start) * min(1.0, t / until)) if until > 0 else base


BY_NAME: dict[str, Callable[..., float]] = {
    "one-cycle": one_cycle,
    "cosine": cosine,
    "piecewise": piecewise,
    "warm-up": warm_up,
    "ramp": ramp,
}
NEEDS_EPOCHS = ("piecewise", "warm-up")


class Schedules:
    """Every scheduled number of a training.

    Arguments:
        tables: `{path, name, …}` each: path `"lr"` or another key of the optimizer's groups (`"optimizer.momentum"`),
            a path into the objective (`"attack.threat.eps"`), or `"weights.climb.gamma"`; name one of `BY_NAME`;
            the rest goes to the function.
        epochs: of the training.

    Raises:
        ValueError: for an unknown name, path, or argument of the function.
    """

    def __init__(
        self,
        tables: Sequence[Mapping[str, Any]],
        *,
        epochs: int,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        climb: Part | None = None,
        ema: Part | None = None,
    ) -> None:
        self.optimizer, self.epochs = optimizer, epochs
        self.root = SimpleNamespace(weights=SimpleNamespace(climb=climb, ema=ema))
        for name in ("attack", "method", "risk", "natural"):
            setattr(self.root, name, getattr(objective, name))
        self.objective = objective
        self.bound = [self._bind(dict(table)) for table in tables]

    def _bind(self, table: dict[str, Any]) -> tuple[str, list[float], Callable[[float, float], float]]:
        path, name = table.pop("path", None), table.pop("name", None)
        require(isinstance(path, str), "schedule.path", path, 'the path of a number, as "lr" or "attack.threat.eps"')
        if name not in BY_NAME:
            raise ValueError(nearest("schedule.name", str(name), BY_NAME))
        if name in NEEDS_EPOCHS:
            table["epochs"] = self.epochs
        bases = self._read(str(path))
        require(all(isinstance(b, int | float) for b in bases), "schedule.path", path, "the path of a number")

        def value(t: float, base: float) -> float:
            return BY_NAME[name](t, base, **table)

        try:
            value(0.0, 1.0)
        except TypeError as error:
            raise ValueError(f"schedule {name!r} of {path!r}: {error}") from None
        return str(path), bases, value

    def _read(self, path: str) -> list[float]:
        key = _group_key(path)
        if key is not None:
            if key not in self.optimizer.defaults:
                raise ValueError(nearest("schedule.path", path, self.optimizer.defaults))
            return [group[key] for group in self.optimizer.param_groups]
        return [read(self.root, path)]

    def apply(self, t: float) -> None:
        """Set every number to its value at progress `t`."""
        for path, bases, value in self.bound:
            key = _group_key(path)
            if key is not None:
                for group, base in zip(self.optimizer.param_groups, bases, strict=True):
                    group[key] = value(t, base)
                continue
            now = value(t, bases[0])
            now = round(now) if isinstance(bases[0], int) else now
            assign(self.objective if path == "natural" else self.root, path, now)


def _group_key(path: str) -> str | None:
    """The key in the optimizer's groups that a path means, if it means one."""
    if path == "lr":
        return path
    return path.removeprefix("optimizer.") if path.startswith("optimizer.") else None
