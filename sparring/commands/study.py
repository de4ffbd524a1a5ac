"""Train and evaluate several recipes and seeds under one protocol, and tabulate them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from .. import reporting
from ..config.recipe import load_recipe
from ..config.validation import Table
from ..data import Source
from ..results.metric_report import MetricReport
from ..results.result import Result
from . import rehearsal, study_jobs, study_match, study_slurm, study_workers
from .study_grid import Job
from .study_jobs import FailedRuns, StudyFolders, threads_set
from .study_plan import Study, load

__all__ = ["FailedRuns", "Job", "Study", "StudyResults", "collect", "load", "page", "run", "submit"]


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
    shard: str | None = None,
    jobs: int = 1,
    threads: int | None = None,
    device: str | None = None,
    progress: bool = False,
) -> StudyResults:
    """Train and evaluate all jobs that have no results yet; return all results.

    Finished work is kept and interrupted work continues: after a kill, the same call completes it.
    A run that fails does not stop the others; those that train on its pseudo-labels fail with it.

    Arguments:
        runs: folder of the run folders; default: `runs/STUDY`.
        results: folder of `EVALUATION/RUN.json`; default: `results/STUDY`.
        only: names of runs, with or without seed; default: all.
        shard: "i/n": the i-th of n parts, as for the i-th of n machines; default: all.
        jobs: worker processes at once, each with a log `RUN.log` beside the run folder. Several
            GPUs are shared among them. Under torchrun it must be 1.
        threads: CPU threads of each run; default: PyTorch's, for several workers cores / jobs. The
            last bits of a training depend on this number, and on nothing else of how jobs run.

    Raises:
        ValueError: for a name in `only` that does not exist, or a result whose training is another.
        FailedRuns: when all others are done, with the reason of each.
    """
    chosen = study_jobs.selected(study, only, shard)
    folders = StudyFolders.of(study, runs, results)
    _collect(study, chosen, folders)  # raises for results of another study, before work
    _rehearse(study, chosen, folders)
    if jobs == 1:
        options: Table = {"device": device, "progress": progress}
        with threads_set(threads):
            failed = study_jobs.in_turn(study, chosen, folders, options)
    else:
        failed = study_workers.at_once(
            study,
            chosen,
            folders,
            jobs_at_once=jobs,
            threads=threads,
            device=device,
            progress=progress,
        )
    if failed:
        raise FailedRuns(failed, len(chosen))
    return _collect(study, chosen, folders)


def submit(
    study: Study,
    options: Mapping[str, Any],
    *,
    runs: str | Path | None = None,
    results: str | Path | None = None,
    only: Sequence[str] = (),
    shard: str | None = None,
    threads: int | None = None,
    device: str | None = None,
) -> dict[str, str]:
    """Hand all jobs that have no results yet to Slurm; return their numbers by name.

    `run` or `collect` return the results when the queue is empty.

    Arguments:
        options: parameters of submitit's `SlurmExecutor`, as `{"partition": "gpu", "time": 600}`.
        runs, results, only, shard, threads, device: as in `run`; the folders must be seen by all
            nodes.

    Raises:
        ValueError: as `run`; and if submitit or Slurm are missing or refuse.
    """
    chosen = study_jobs.selected(study, only, shard)
    folders = StudyFolders.of(study, runs, results)
    _collect(study, chosen, folders)
    _rehearse(study, chosen, folders)
    return study_slurm.submit(
        study, chosen, folders, options=options, threads=threads, device=device
    )


def _rehearse(study: Study, jobs: Sequence[Job], folders: StudyFolders) -> None:
    """Check every training, evaluation and file that is to come, before the first training."""
    sources: dict[str, Source] = {}
    for job in jobs:
        tables = [*study.tables_for(job, study.evaluations), *study.tables_for(job, study.metrics)]
        files_to_come = [folders.result(name, job) for name, _ in tables]
        if all(file.is_file() for file in files_to_come):
            continue
        for file in files_to_come:
            rehearsal.new_file(file, "results")
        rehearsal.new_folder(folders.run(job.name), "runs")
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
    folders = StudyFolders.of(study, None, results)
    return _collect(study, study_jobs.selected(study, only), folders)


def _collect(study: Study, jobs: Sequence[Job], folders: StudyFolders) -> StudyResults:
    collected = StudyResults({n: [] for n in study.evaluations}, {n: [] for n in study.metrics})
    kinds: list[tuple[dict[str, Any], Callable[[Path], Any], dict[str, Table]]] = [
        (collected.results, Result.load, study.evaluations),
        (collected.metric_reports, MetricReport.load, study.metrics),
    ]
    for job in jobs:
        recipe = load_recipe(job.recipe, set=job.set)
        for records, read, tables in kinds:
            for name, table in study.tables_for(job, tables):
                file = folders.result(name, job)
                if file.is_file():
                    records[name].append(read(file))
                    study_match.check_result(file, job, recipe, records[name][-1].recipe, table)
                    if records is collected.results:
                        study_match.check_protocol(file, records[name][-1], table)
                    else:
                        study_match.check_metrics(file, records[name][-1], table)
    for name, group in collected.results.items():
        study_match.check_alike(name, group)
    return collected
