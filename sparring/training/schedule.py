"""Schedules: functions of progress in [0, 1], each bound to a number by its path."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, get_args

import torch
from torch import nn
from torch.optim import Optimizer

from ..component import arguments, assign_at, did_you_mean, require, value_at
from .ranges import FINITE, NOT_NEGATIVE, OPTIMIZER, is_number

WAITED_FOR = {"since", "warmup", "up"}  # after the last epoch they would never be reached
GRID = 100  # parts of a training, at whose ends the values of a schedule are checked
POSITIONS = ("at", "until", "since", "warmup", "up")  # a fraction of the training, or epochs


def constant(progress: float, *, base: float, value: float | None = None) -> float:
    """Return `value`; default: the base, which is the number at the path before training.

    >>> constant(0.5, base=0.1)
    0.1
    """
    return base if value is None else value


def ramp(
    progress: float,
    *,
    base: float,
    start: float = 0.0,
    end: float | None = None,
    since: float = 0.0,
    until: float = 1.0,
) -> float:
    """Return a line from `start` at `since` to `end` (default: the base) at `until`; level outside.

    >>> ramp(0.25, base=0.3, until=0.5)
    0.15
    """
    end = base if end is None else end
    if progress >= until:
        return end
    fraction = (progress - since) / (until - since) if progress > since else 0.0
    return start + (end - start) * fraction


def warmup(progress: float, *, base: float, until: float = 0.1, start: float = 0.0) -> float:
    """Return a line from `start`·base to the base at `until`, then the base.

    >>> warmup(0.05, base=1.0), warmup(0.9, base=1.0)
    (0.5, 1.0)
    """
    return ramp(progress, base=base, start=start * base, until=until)


def cosine(
    progress: float, *, base: float, end: float = 0.0, warmup: float = 0.0, since: float = 0.0
) -> float:
    """Return a cosine, (1 + cos πp)/2, from the base at `since` to `end`·base at the end.

    Before `since` it is the base, after a linear warm-up from 0.

    Source: Loshchilov & Hutter 2017, eq. 5, without restarts; with `since`, the LinearCosineLR in
    the code of Paknezhad et al. 2022.

    >>> round(cosine(0.5, base=1.0), 6), round(cosine(0.75, base=1.0, since=0.5), 6)
    (0.5, 0.5)
    """
    if progress < warmup:
        return base * progress / warmup
    since = max(since, warmup)
    fraction = (progress - since) / (1 - since) if since < 1 else 1.0
    return _cosine_between(base, end * base, max(fraction, 0.0))


def one_cycle(
    progress: float,
    *,
    base: float,
    up: float = 0.3,
    start: float = 0.04,
    end: float = 4e-6,
    shape: str = "cosine",
) -> float:
    """Return a cycle: from `start`·base up to the base at `up`, then down to `end`·base.

    Arguments:
        shape: `"cosine"` or `"linear"` on both sides.

    Source: Smith & Topin 2018; defaults are those of `torch.optim.lr_scheduler.OneCycleLR`.

    >>> one_cycle(0.3, base=0.1)
    0.1
    """
    require(shape in ("cosine", "linear"), "shape", shape, "cosine or linear")
    between = _cosine_between if shape == "cosine" else _linear_between
    if progress < up:
        return between(start * base, base, progress / up)
    return between(base, end * base, (progress - up) / (1 - up) if up < 1 else 1.0)


def piecewise(
    progress: float, *, base: float, at: Sequence[float], factor: float = 0.1, warmup: float = 0.0
) -> float:
    """Return base·factor^n, n the number of positions in `at` that are reached.

    During `warmup` it rises linearly from 0 to the base.

    >>> round(piecewise(0.8, base=1.0, at=[0.5, 0.75]), 6)
    0.01
    """
    if progress < warmup:
        return base * progress / warmup
    return base * factor ** sum(progress >= position for position in at)


def _linear_between(a: float, b: float, fraction: float) -> float:
    return a + (b - a) * fraction


def _cosine_between(a: float, b: float, fraction: float) -> float:
    return b + (a - b) * (1 + math.cos(math.pi * fraction)) / 2


SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "cosine": cosine,
    "one-cycle": one_cycle,
    "piecewise": piecewise,
    "ramp": ramp,
    "warmup": warmup,
}


class Target(NamedTuple):
    """Hold a number that a schedule sets.

    Attributes:
        path: its one spelling, as `"optimizer.lr"` for `"lr"`.
        assign, base: what sets it, and its value now.
        check: raises `ValueError` for a value that is out of its range.
        whole: it is an integer.
    """

    path: str
    assign: Callable[[float], None]
    base: float
    check: Callable[[float], None]
    whole: bool = False


class BoundSchedule:
    """Bind a schedule to a number by its path: a call with the progress sets it and returns it.

    Arguments:
        table: `path`, `name`, and the keywords of that schedule. The path is `"lr"`, which groups
            with another rate follow in proportion; `"optimizer.momentum"`, of every parameter group
            that has no other; `"weights.climb.gamma"`; or a number
            of the objective, as `"attack.threat.eps"` (also `"threat.eps"`), rounded where it is an
            integer. The name is one of `SCHEDULES`. The positions `at`, `until`, `since`, `warmup`
            and `up` are fractions of the training if below 1, else epochs.
        epochs: of the whole training.

    Raises:
        ValueError: for a path, name or keyword that does not exist; it lists those that do.
    """

    def __init__(
        self,
        table: Mapping[str, Any],
        *,
        optimizer: Optimizer,
        objective: nn.Module,
        epochs: int,
        climb: nn.Module | None = None,
        ema: nn.Module | None = None,
    ) -> None:
        keywords = dict(table)
        self.path, name = (_required(keywords, key) for key in ("path", "name"))
        if name not in SCHEDULES:
            raise ValueError(did_you_mean("schedule.name", name, SCHEDULES))
        weights = SimpleNamespace(climb=climb, ema=ema)
        # The base is read once, here: later values would compound (a factor on a factor).
        self._target = _target(self.path, optimizer, objective, weights)
        parameters = inspect.signature(SCHEDULES[name]).parameters
        known = {k: p for k, p in parameters.items() if k not in ("progress", "base")}
        for key, value in keywords.items():
            if key not in known:
                raise ValueError(did_you_mean(f"schedule {name}: key", key, known))
            if key in POSITIONS:
                keywords[key] = _fraction(key, value, epochs)
            elif key != "shape":
                ok = is_number(value) and math.isfinite(value)
                require(ok, f"schedule.{key}", value, "a finite number")
        for key, parameter in known.items():
            require(key in keywords or parameter.default is not parameter.empty, key, None, "set")
        self.base = self._target.base
        self._raw_value = functools.partial(SCHEDULES[name], base=self.base, **keywords)
        _check_order(keywords)
        self._value(0.0)  # raises for a wrong `shape` before the training starts
        for value in (min(self.values()), max(self.values())):
            self._target.check(value)

    @property
    def target(self) -> str:
        """The path in its one spelling: `"optimizer.lr"` for `"lr"`."""
        return self._target.path

    def _value(self, progress: float) -> float:
        value = self._raw_value(progress)
        return round(value) if self._target.whole else value

    def __call__(self, progress: float) -> float:
        value = self._value(progress)
        self._target.assign(value)
        return value

    def values(self) -> list[float]:
        """Return the values that the number takes, at the ends of `GRID` parts of the training."""
        return sorted({self._value(k / GRID) for k in range(GRID + 1)})

    def check_values(self, check: Callable[[], None]) -> None:
        """Raise `ValueError` if `check` refuses the number at some progress; restore it at the end.

        Arguments:
            check: called with the number set to each of the values that it takes.
        """
        try:
            for value in self.values():
                self._target.assign(value)
                try:
                    check()
                except ValueError as error:
                    raise ValueError(f"schedule of {self.path}, at {value:g}: {error}") from error
        finally:
            self._target.assign(self.base)


def _required(table: dict[str, Any], key: str) -> str:
    require(key in table, f"schedule.{key}", None, 'set, as {path = "lr", name = "cosine"}')
    return str(table.pop(key))


def _fraction(key: str, value: Any, epochs: int) -> Any:
    """Return a position, or a list of them, as a fraction of the training."""
    if isinstance(value, list | tuple):
        return [_fraction(key, v, epochs) for v in value]
    allowed = "a share of the training in [0, 1), or epochs ≥ 1"
    ok = is_number(value) and 0 <= value < math.inf
    require(ok, f"schedule.{key}", value, allowed)
    reached = key not in WAITED_FOR or value <= epochs
    require(reached, f"schedule.{key}", value, f"within the {epochs} epochs of the training")
    return value / epochs if value >= 1 else value


def _check_order(keywords: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless positions rise, and those that a schedule waits for are reached."""
    at = keywords.get("at", [])
    require(isinstance(at, list), "schedule.at", at, "a list of positions, as [0.5, 0.75]")
    require(at == sorted(at), "schedule.at", at, "in rising order, each a share of the training")
    since, until = keywords.get("since", 0.0), keywords.get("until", math.inf)
    require(until >= since, "schedule.until", until, f"at least since = {since:g}")


def _target(
    path: str, optimizer: Optimizer, objective: nn.Module, weights: SimpleNamespace
) -> Target:
    head, _, tail = path.partition(".")
    if path == "lr" or head == "optimizer":
        return _in_optimizer(path, tail or path, optimizer)
    root, inside = (weights, tail) if head == "weights" else (objective, path)
    inside = f"attack.{inside}" if head == "threat" else inside
    base: Any = root
    for name in inside.split("."):
        if base is None:
            raise ValueError(f"schedule.path = {path!r}: this training has no {name!r} to set")
        if not hasattr(base, name):
            assign_at(root, inside, 0.0)
        base = getattr(base, name)
    require(is_number(base), f"schedule.path: {path}", base, "a number")
    above, _, name = inside.rpartition(".")
    piece = value_at(root, above) if above else root
    check = functools.partial(_check_in_piece, path, piece, name)
    spelling = f"weights.{inside}" if root is weights else inside
    assign = functools.partial(assign_at, root, inside)
    return Target(spelling, assign, base, check, _is_whole(piece, name))


def _is_whole(piece: object, name: str) -> bool:
    """Return whether a number of a piece is an integer, by its constructor's annotation."""
    parameter = arguments(type(piece)).get(name)
    kind = None if parameter is None else parameter.annotation
    return set(get_args(kind) or [kind]) - {type(None)} == {int}


def _check_in_piece(path: str, piece: object, name: str, value: float) -> None:
    """Raise `ValueError` if the constructor of a piece refuses a number that a schedule sets."""
    config = {n: getattr(piece, n) for n in arguments(type(piece)) if hasattr(piece, n)}
    if name not in config:
        return
    try:
        with torch.random.fork_rng(devices=[]):
            type(piece)(**{**config, name: value})
    except ValueError as error:
        raise ValueError(f"schedule of {path}: {error}") from error
    except TypeError:  # a piece of the user's that does not keep all of its arguments
        return


def _in_optimizer(path: str, key: str, optimizer: Optimizer) -> Target:
    numbers = {k: v for k, v in optimizer.defaults.items() if is_number(v)}
    if key not in numbers:
        raise ValueError(did_you_mean("schedule.path", path, [f"optimizer.{k}" for k in numbers]))
    base = numbers[key]
    # Rates keep their ratios. Groups that differ in another number, as those without weight decay,
    # keep their value. By index, since `load_state_dict` puts new dicts in place of the groups.
    values = {k: group[key] for k, group in enumerate(optimizer.param_groups)}
    factors = {k: 1.0 if v == base else v / base for k, v in values.items() if key == "lr"}
    factors = factors or {k: 1.0 for k, v in values.items() if v == base}

    def set_groups(value: float) -> None:
        for k, factor in factors.items():
            optimizer.param_groups[k][key] = value * factor

    def check(value: float) -> None:
        # a rate of 0 is no mistake here: a warm-up begins there, and a cosine ends there
        is_in_range, allowed = NOT_NEGATIVE if key == "lr" else OPTIMIZER.get(key, FINITE)
        require(is_in_range(value), f"schedule of {path}: {key}", value, allowed)

    return Target(f"optimizer.{key}", set_groups, base, check)


def bind_schedules(tables: Sequence[Mapping[str, Any]], **training: Any) -> list[BoundSchedule]:
    """Return the schedules of a recipe's list of `{path, name, …}`.

    Arguments:
        training: keywords of `BoundSchedule`.

    Raises:
        ValueError: if two set the same number, under whatever spelling of its path.
    """
    bound = [BoundSchedule(table, **training) for table in tables]
    targets = [schedule.target for schedule in bound]
    for schedule in bound:
        once = targets.count(schedule.target) == 1
        require(once, "schedule.path", schedule.path, f"scheduled once, as {schedule.target}")
    return bound
