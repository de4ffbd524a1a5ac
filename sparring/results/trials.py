"""Records of a search: its trials, the best of them, and what their accuracy depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from ..runtime import files
from .records import from_json, to_json

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
STATES = (COMPLETE, PRUNED, FAILED)
SCHEMA = 2
FEWEST = 4  # trials that say something about a parameter


@dataclass(frozen=True)
class Trial:
    """Describe one training of a search.

    Arguments:
        number: from 0; its run folder is `trial-NUMBER`.
        state: "complete", "pruned" (ended early) or "failed".
        parameters: by path, numbers, or the texts of choices.
        robust, clean: on the validation split, of its best epoch; None of a failed trial.
        epochs: trained.
        seconds: of training and validation.
        history: the best robust accuracy up to each validated epoch, as [epoch, accuracy].
        reason: why it failed.
    """

    number: int
    state: str
    parameters: dict[str, float | int | str]
    robust: float | None = None
    clean: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    history: list[list[float]] = field(default_factory=list)
    reason: str = ""


@dataclass(frozen=True)
class SearchRecord:
    """Hold a search: what was searched by which settings, and the trials that are done.

    Arguments:
        name: of the recipe.
        space: the texts of the ranges, by path.
        recipe: the tables that all trials share.
        fidelity: changes of the trials alone.
    """

    name: str
    space: dict[str, str]
    recipe: dict[str, Any]
    fidelity: list[str] = field(default_factory=list)
    seed: int = 0
    prune: bool = True
    trials: list[Trial] = field(default_factory=list)
    schema: int = SCHEMA

    @property
    def best(self) -> Trial | None:
        """Return the complete trial with the highest robust, then clean, accuracy."""
        done = [t for t in self.trials if t.state == COMPLETE and t.robust is not None]
        # the first of equals: a later one has no more to show for its draws
        return max(done, key=lambda t: (t.robust, t.clean, -t.number), default=None)

    def save(self, path: Path) -> None:
        """Write the record as JSON."""
        files.write(path, to_json(self, first="schema").encode())

    @classmethod
    def load(cls, path: Path) -> SearchRecord:
        """Read a record that `save` wrote.

        Raises:
            ValueError: for a damaged file, or one of something else.
        """
        record = from_json(cls, path, noun="search", redo="Search in another folder")
        numbers = [t.number for t in record.trials]
        if numbers != [*range(len(numbers))] or any(t.state not in STATES for t in record.trials):
            raise ValueError(f"{path} is no search of sparring: its trials are out of order")
        return record


def pareto(trials: Sequence[Trial]) -> list[Trial]:
    """Return the complete trials that no other beats in robust and clean accuracy, by the first.

    >>> pairs = [(0.5, 0.9), (0.6, 0.8), (0.4, 0.8)]
    >>> trials = [Trial(k, COMPLETE, {}, r, c) for k, (r, c) in enumerate(pairs)]
    >>> [trial.number for trial in pareto(trials)]
    [1, 0]
    """
    done = [t for t in trials if t.state == COMPLETE and t.robust is not None]
    done.sort(key=lambda t: (-(t.robust or 0), -(t.clean or 0), t.number))
    front, most = [], -math.inf
    for trial in done:
        if (trial.clean or 0.0) > most:
            front.append(trial)
            most = trial.clean or 0.0
    return front


def importance(record: SearchRecord) -> dict[str, float]:
    """Return the share of the variance of robust accuracy that each parameter explains alone.

    It is ρ² of Spearman's correlation for a range, and η² = between / total for choices, over the
    complete trials; in [0, 1], largest first. It overrates parameters that move with others.

    Returns nothing for fewer than 4 trials, or trials of equal accuracy.
    """
    done = [t for t in record.trials if t.state == COMPLETE and t.robust is not None]
    robust = np.array([t.robust for t in done], dtype=float)
    if len(done) < FEWEST or np.ptp(robust) == 0:
        return {}
    shares = {}
    for path in record.space:
        values = [t.parameters[path] for t in done]
        if all(isinstance(v, int | float) for v in values):
            varied = len(set(values)) > 1
            ranks: Any = scipy.stats.spearmanr(values, robust) if varied else None
            shares[path] = 0.0 if ranks is None else ranks.statistic**2
        else:
            shares[path] = _between(values, robust)
    return dict(sorted(((k, float(v)) for k, v in shares.items()), key=lambda one: -one[1]))


def _between(values: Sequence[Any], robust: np.ndarray) -> float:
    """Return η², the share of the variance that lies between groups of equal values."""
    groups: Mapping[Any, np.ndarray] = {
        v: robust[[w == v for w in values]] for v in dict.fromkeys(values)
    }
    total = ((robust - robust.mean()) ** 2).sum()
    return sum(len(g) * (g.mean() - robust.mean()) ** 2 for g in groups.values()) / total
