"""Name what cards, frames and pictures read of a result, so that a result can import them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from .intervals import Interval
from .sampled import SampledClaim


class ShownAttack(Protocol):
    """Name the fields of an `AttackRow` that are shown."""

    @property
    def name(self) -> str: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def attacked(self) -> int: ...
    @property
    def skipped(self) -> int: ...


class ShownLevel(Protocol):
    """Name the fields of an `EpsRow` that are shown."""

    @property
    def eps(self) -> float | None: ...
    @property
    def threat(self) -> str: ...
    @property
    def robust(self) -> Interval: ...
    @property
    def attacks(self) -> Sequence[ShownAttack]: ...
    @property
    def sampled(self) -> SampledClaim | None: ...


class ShownResult(Protocol):
    """Name the fields of a `Result` that are shown."""

    name: str
    dataset: str
    split: str
    n: int
    suite: str
    suite_version: int
    verdict: str
    early: str
    clean: Interval
    robust: Interval
    stripped: bool
    class_names: list[str]
    arrays: dict[str, np.ndarray]

    @property
    def reason(self) -> str: ...
    @property
    def recipe(self) -> Mapping[str, Any]: ...
    @property
    def threat(self) -> Mapping[str, Any]: ...
    @property
    def by_eps(self) -> Sequence[ShownLevel]: ...
