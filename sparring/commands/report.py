"""Write the page of runs or of result files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .. import reporting
from ..results.levels import headline, ranked
from ..results.metric_report import MetricReport
from ..results.result import Result
from ..runtime.text import printable
from ..training.run_folder import RECIPE
from .rehearsal import PAGES, new_file

METRICS = "metrics"
MOST_RUNS = 8  # that a message names


class Report(NamedTuple):
    """Hold results, the page that shows them, and the runs left out as they were not evaluated."""

    results: list[Result]
    page: Path
    skipped: list[Path]


def report(
    runs: Sequence[str | Path], *, out: str | Path | None = None, at: float | None = None
) -> Report:
    """Write the results of runs as one page that needs no network.

    Runs that were not evaluated yet are skipped, if others were.

    Arguments:
        runs: run folders, each with the results in it, or single result files.
        out: the page, a `.html` file; default: `report.html` in the run, or in the working folder
            for several.
        at: the radius at which to compare; default: the recipe's own eps.

    Raises:
        FileNotFoundError: if no run was evaluated, or one does not exist.
        ValueError: if no result has the radius `at`, or for an `out` that is no page.
    """
    out = None if out is None else new_file(out, endings=PAGES)
    paths = [Path(run) for run in runs]
    skipped = [path for path in paths if _is_unevaluated_run(path)]
    if len(skipped) == len(paths):
        skipped = []  # the first one's message says what to do
    shown = [path for path in paths if path not in skipped]
    files = [file for path in shown for file in result_files(path)]
    results = [Result.load(file) for file in files]
    file_of = {id(result): file for result, file in zip(results, files, strict=True)}
    headline(results, at)  # raises for a radius that was not measured
    results = ranked(results, at)
    single = len(shown) == 1 and shown[0].is_dir()
    page = Path(out) if out is not None else Path(shown[0] if single else ".", "report.html")
    metrics = [report for path in shown for report in metric_reports(path)]
    sources = [file_of[id(result)] for result in results]
    reporting.page(results, page, metrics=metrics, at=at, files=sources)
    return Report(results, page, skipped)


def _is_unevaluated_run(path: Path) -> bool:
    return (path / RECIPE).is_file() and not any((path / "results").glob("*.json"))


def metric_reports(run: Path) -> list[MetricReport]:
    """Read the metrics that `sparring metrics` has left in a run folder."""
    return [MetricReport.load(path) for path in sorted((run / METRICS).glob("*.json"))]


def result_files(run: Path) -> list[Path]:
    """Return the result file that `run` is, or the result files that it contains.

    Raises:
        FileNotFoundError: if there are none; for a folder of runs it names them.
    """
    if run.is_file():
        return [run]
    if results := sorted((run / "results").glob("*.json")):
        return results
    name = printable(run)
    if not run.exists():
        raise FileNotFoundError(f"{name} does not exist")
    if inside := sorted(path.parent for path in run.glob(f"*/{RECIPE}")):
        names = " ".join(printable(path) for path in inside[:MOST_RUNS])
        more = f" and {len(inside) - MOST_RUNS} more" if len(inside) > MOST_RUNS else ""
        raise FileNotFoundError(f"{name} holds runs, not results; name the runs: {names}{more}")
    raise FileNotFoundError(f"{name} holds no results: evaluate it first")
