"""Compare runs or results: one table at the radius where they differ, and every pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import reporting
from ..results import comparison, levels
from ..results.result import Result
from ..results.rows import WIDTH, Rows
from ..runtime.output import lines
from .report import result_files


@dataclass(frozen=True)
class ComparedResult:
    """Describe a result in a comparison; accuracies are in percent, each with its 95 % interval.

    Arguments:
        best: it is not told apart from the best one.
        measurement: the verdict on the measurement.
    """

    name: str
    data: str
    n: int
    suite: str
    clean: float
    clean_low: float
    clean_high: float
    robust: float | None
    robust_low: float | None
    robust_high: float | None
    best: bool
    measurement: str


@dataclass(frozen=True, repr=False)
class ResultComparison:
    """Hold compared results, best first; it prints as the table of `sparring compare`.

    Arguments:
        at: the radius of the comparison, as asked for; default: the headline of the results.
        pairs: differences on the same samples; there are none between results of other samples.
        skipped: what was left out, and why.
    """

    results: list[Result]
    at: float | None
    pairs: list[comparison.Comparison]
    skipped: list[str]

    @property
    def levels(self) -> dict[str, levels.Level]:
        """Return the radius of each norm at which all results are compared."""
        return levels.headline(self.results, self.at)

    def rows(self) -> Rows[ComparedResult]:
        """Return one record per result; the best are those of results measured alike."""
        records = []
        for group in levels.comparable_groups(self.results):
            at = levels.group_headline(group, self.at)
            numbered = [replace(r, name=str(k)) for k, r in enumerate(group)]  # names may repeat
            best = levels.tied_with_best(numbered, at)
            records += [_record(r, at, best=str(k) in best) for k, r in enumerate(group)]
        return Rows(records)

    def to_frame(self) -> Any:
        """Return one row per result as a pandas data frame.

        Raises:
            ImportError: without pandas.
        """
        return self.rows().to_frame()

    def __repr__(self) -> str:
        from rich.console import Console

        shown = Console(width=WIDTH, color_system=None, force_terminal=False)
        with shown.capture() as capture:
            shown.print(reporting.table(self.results, at=self.at))
        return lines(capture.get().rstrip())

    def _repr_html_(self) -> str:
        return self.rows()._repr_html_()


def compare(runs: Sequence[Result | str | Path], *, at: float | None = None) -> ResultComparison:
    """Compare results, given as records, result files or run folders.

    Arguments:
        at: the radius; default: the recipe's own if all were measured there, else the one where
            the mean robust accuracy is nearest to 50 %.

    Raises:
        ValueError: if nothing was evaluated, or not at the radius `at`.
        FileNotFoundError: for a path that does not exist.
    """
    results, skipped = [], []
    for run in runs:
        if isinstance(run, Result):
            results.append(run)
            continue
        path = Path(run)
        if path.is_dir() and not any((path / "results").glob("*.json")):
            skipped.append(f"{path} was never evaluated")
            continue
        results += [Result.load(file) for file in result_files(path)]
    if not results:
        raise ValueError(f"nothing to compare: {'; '.join(skipped) or 'no runs'}")
    levels.headline(results, at)  # raises for a radius that was not measured
    return ResultComparison(
        levels.ranked(results, at), at, comparison.pairs(results, at=at), skipped
    )


def _record(result: Result, at: dict[str, levels.Level], *, best: bool) -> ComparedResult:
    robust, clean = levels.robust_at(result, at), result.clean
    return ComparedResult(
        result.name,
        f"{result.dataset} {result.split}",
        result.n,
        result.suite,
        _percent(clean.accuracy),
        _percent(clean.low),
        _percent(clean.high),
        None if robust is None else _percent(robust.accuracy),
        None if robust is None else _percent(robust.low),
        None if robust is None else _percent(robust.high),
        best,
        result.verdict,
    )


def _percent(share: float) -> float:
    return round(100 * share, 2)
