"""From a run to a result, and from results to a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import reporting
from ..results.metric_report import MetricReport
from ..results.result import Result

METRICS = "metrics"


def report(
    runs: Sequence[str | Path], *, out: str | Path | None = None
) -> tuple[list[Result], Path]:
    """Write the results of runs as one page that needs no network; results and page's path.

    Arguments:
        runs: run folders, each with the results in it, or single result files.
        out: the page; `report.html` in the run, or here for several, when omitted.
    """
    results = [Result.load(path) for run in runs for path in found(Path(run))]
    single = len(runs) == 1 and Path(runs[0]).is_dir()
    page = Path(out) if out is not None else Path(runs[0] if single else ".", "report.html")
    reporting.page(results, page, measures=[m for run in runs for m in measured(Path(run))])
    return results, page


def measured(run: Path) -> list[MetricReport]:
    """The metrics that a run folder holds, as `sparring metrics` leaves them."""
    return [MetricReport.load(path) for path in sorted((run / METRICS).glob("*.json"))]


def found(run: Path) -> list[Path]:
    """The result files that `run` is or holds.

    Raises:
        FileNotFoundError: if there are none.
    """
    if run.is_file():
        return [run]
    results = sorted((run / "results").glob("*.json"))
    if not results:
        what = "holds no results: evaluate it first" if run.is_dir() else "does not exist"
        raise FileNotFoundError(f"{run} {what}")
    return results
