"""Write the page of runs or of result files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import reporting
from ..results.metric_report import MetricReport
from ..results.result import Result
from .rehearsal import new_file

METRICS = "metrics"


def report(
    runs: Sequence[str | Path], *, out: str | Path | None = None
) -> tuple[list[Result], Path]:
    """Write the results of runs as one page that needs no network; return results and page.

    Arguments:
        runs: run folders, each with the results in it, or single result files.
        out: the page; default: `report.html` in the run, or in the working folder for several.
    """
    out = None if out is None else new_file(out)
    results = [Result.load(path) for run in runs for path in result_files(Path(run))]
    single = len(runs) == 1 and Path(runs[0]).is_dir()
    page = Path(out) if out is not None else Path(runs[0] if single else ".", "report.html")
    reporting.page(results, page, metrics=[m for run in runs for m in metric_reports(Path(run))])
    return results, page


def metric_reports(run: Path) -> list[MetricReport]:
    """Read the metrics that `sparring metrics` has left in a run folder."""
    return [MetricReport.load(path) for path in sorted((run / METRICS).glob("*.json"))]


def result_files(run: Path) -> list[Path]:
    """Return the result file that `run` is, or the result files that it contains.

    Raises:
        FileNotFoundError: if there are none.
    """
    if run.is_file():
        return [run]
    results = sorted((run / "results").glob("*.json"))
    if not results:
        reason = "holds no results: evaluate it first" if run.is_dir() else "does not exist"
        raise FileNotFoundError(f"{run} {reason}")
    return results
