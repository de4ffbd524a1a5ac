"""Train and evaluate several recipes and seeds under one protocol, and tabulate them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from .. import reporting
from ..component import did_you_mean
from ..config.recipe import Recipe, load_recipe
from ..config.validation import Table
from ..data import Source
from ..results.metric_report import MetricReport
from ..results.result import Result
from ..runtime.first_edition import upgrade
from ..training.run_folder import read_log
from . import evaluate, metrics, rehearsal, train
from .pseudo_label import FILE, label
from .study_plan import Job, Study, job_names, load

__all__ = ["Job", "Study", "StudyResults", "collect", "load", "page", "run"]
TRAINING_TABLES = ("method", "objective", "weights", "train")  # which no evaluation changes


class StudyResults(NamedTuple):
    """Hold the results of a study by evaluation or metrics table, in order of jobs."""

    results: dict[str, list[Result]]
    metric_reports: dict[str, list[MetricReport]]


def run(
    study: Study,
    *,
    runs: str | Path | None = None,
    results: str | Path | None = None,
    only: Sequence[str] = (),
    device: str | None = None,
    progress: bool = False,
) -> StudyResults:
    """Train and evaluate all jobs that have no results yet; return all results.

    Finished work is kept and interrupted work continues: after a kill, the same call completes it.

    Arguments:
        runs: folder of the run folders; default: `runs/STUDY`.
        results: folder of `EVALUATION/RUN.json`; default: `results/STUDY`.
        only: names of runs, with or without seed; default: all.

    Raises:
        ValueError: for a name in `only` that does not exist, or a result whose training is another.
    """
    collect(study, results=results, only=only)  # raises for results of another study, before work
    runs = Path("runs", study.name) if runs is None else Path(runs)
    settings: Table = {"device": device, "progress": progress}
    out = _results_folder(study, results)
    _rehearse(study, only, runs, out)
    for job in _selected(study, only):
        for name, table in study.tables_for(job, study.evaluations):
            file = out / name / f"{job.name}.json"
            if not file.is_file():
                folder = _train(study, job, runs, settings)
                evaluate.evaluate(folder, **table, out=file, **settings)
        for name, table in study.tables_for(job, study.metrics):
            file = out / name / f"{job.name}.json"
            if not _complete(file, table):
                folder = _train(study, job, runs, settings)
                arguments = {k: table[k] for k in ("off", "n", "split")}
                arguments["arguments"] = table["set"]
                metrics.metrics(folder, table["names"], **arguments, out=file, **settings)
    return collect(study, results=results, only=only)


def _rehearse(study: Study, only: Sequence[str], runs: Path, out: Path) -> None:
    """Check every training, evaluation and file that is to come, before the first training."""
    sources: dict[str, Source] = {}
    for job in _selected(study, only):
        tables = [*study.tables_for(job, study.evaluations), *study.tables_for(job, study.metrics)]
        files_to_come = [out / name / f"{job.name}.json" for name, _ in tables]
        if all(file.is_file() for file in files_to_come):
            continue
        for file in files_to_come:
            rehearsal.new_file(file, "results")
        rehearsal.new_folder(runs / job.name, "runs")
        evaluations = dict(study.tables_for(job, study.evaluations))
        rehearsal.check_job(job.recipe, job.set, evaluations, sources)


def page(study: Study, results: StudyResults, path: str | Path) -> Path:
    """Write one page with the study's table and a report of every result; return its path."""
    several = len(results.results) > 1
    named = [
        replace(r, name=f"{r.name} · {kind}") if several else r
        for kind, of_kind in results.results.items()
        for r in of_kind
    ]
    metric_reports = [report for reports in results.metric_reports.values() for report in reports]
    data = reporting.study_page(study, results.results)
    return reporting.page(named, path, title=study.title, metrics=metric_reports, study=data)


def collect(
    study: Study, *, results: str | Path | None = None, only: Sequence[str] = ()
) -> StudyResults:
    """Return the results on disk, without any work; arguments and errors as in `run`."""
    out = _results_folder(study, results)
    collected = StudyResults({n: [] for n in study.evaluations}, {n: [] for n in study.metrics})
    kinds: list[tuple[dict[str, Any], Callable[[Path], Any], dict[str, Table]]] = [
        (collected.results, Result.load, study.evaluations),
        (collected.metric_reports, MetricReport.load, study.metrics),
    ]
    for job in _selected(study, only):
        recipe = load_recipe(job.recipe, set=job.set)
        for records, read, tables in kinds:
            for name, _ in study.tables_for(job, tables):
                file = out / name / f"{job.name}.json"
                if file.is_file():
                    records[name].append(read(file))
                    _check_same_training(recipe, records[name][-1].recipe, file)
    return collected


def _selected(study: Study, only: Sequence[str]) -> list[Job]:
    known = job_names(study.jobs)
    for name in only:
        if name not in known:
            raise ValueError(did_you_mean("only", name, known))
    return [job for job in study.jobs if not only or job.is_in(only)]


def _results_folder(study: Study, results: str | Path | None) -> Path:
    return Path("results", study.name) if results is None else Path(results)


def _complete(file: Path, table: Table) -> bool:
    """Return whether a file holds all metrics of a table, on all its data sets."""
    if not file.is_file():
        return False
    report = MetricReport.load(file)
    data = {report.dataset, *(profile.data for profile in report.profiles)}
    names = {row.name for row in report.rows}
    return names >= metrics.checked_metrics(table["names"]).keys() and data >= {*table["off"]}


def _check_same_training(study_recipe: Recipe, recipe: Table, file: Path) -> None:
    """Raise a `ValueError` for a result whose run was trained by another version of the study."""
    for key in TRAINING_TABLES:
        # A result of the first edition has the same training under other keys.
        if _without_compile(upgrade(recipe).get(key)) != _without_compile(
            study_recipe.tables.get(key)
        ):
            raise ValueError(
                f"{file} is of a run whose [{key}] is not the study's: remove it and its run "
                "folder, or give another --runs and --results"
            )


def _without_compile(table: Table | None) -> Table:  # it does not change what is trained
    return {k: v for k, v in (table or {}).items() if k != "compile"}


def _train(study: Study, job: Job, runs: Path, settings: Table) -> Path:
    """Train a job's run to its last epoch, if it is not yet; return its folder."""
    folder = runs / job.name
    epochs = len(read_log(folder))
    if epochs >= load_recipe(job.recipe, set=job.set).tables["train"]["epochs"]:
        return folder
    changes = list(job.set)
    for key, name in job.pseudo.items():
        labels = runs / name / FILE
        if not labels.is_file():
            teacher = next(one for one in study.jobs if one.name == name)
            label(_train(study, teacher, runs, settings), device=settings["device"])
        changes.append(f"{key}={labels}")
    return train.train(load_recipe(job.recipe, set=changes), out=folder, resume=True, **settings)
