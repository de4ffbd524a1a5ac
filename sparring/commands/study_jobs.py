"""Do the jobs of a study: which of them, in which folders, and one after the other."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from ..component import did_you_mean, require, require_at_least
from ..config.recipe import load_recipe
from ..config.validation import Table
from ..results.metric_report import MetricReport
from ..runtime.lock import Locked
from ..runtime.text import printable
from ..training.length import is_complete
from ..training.run_folder import read_log
from . import evaluate, metrics, study_match, train
from .pseudo_label import FILE, label
from .study_grid import Job
from .study_plan import Study, job_names

MOST_REASONS = 10


class FailedRuns(ValueError):
    """Report the runs of a study that failed, when the others are done.

    Arguments:
        reasons: by the name of each run.
        count: of all runs that were to be done.
    """

    def __init__(self, reasons: Mapping[str, str], count: int) -> None:
        self.reasons = dict(reasons)
        lines = [f"{name}: {reason}" for name, reason in reasons.items()]
        more = [f"and {len(lines) - MOST_REASONS} more"] if len(lines) > MOST_REASONS else []
        head = f"{len(lines)} of {count} runs failed; the others are done, and kept"
        super().__init__("\n".join([head, *lines[:MOST_REASONS], *more]))


class StudyFolders(NamedTuple):
    """Name the folders of a study: of its runs, and of its results."""

    runs: Path
    results: Path

    @classmethod
    def of(cls, study: Study, runs: str | Path | None, results: str | Path | None) -> StudyFolders:
        """Return the folders of a study; default: `runs/STUDY` and `results/STUDY`."""
        runs = Path("runs", study.name) if runs is None else Path(runs)
        return cls(runs, Path("results", study.name) if results is None else Path(results))

    def run(self, job: str) -> Path:
        """Return the run folder of a job."""
        return self.runs / job

    def result(self, kind: str, job: Job) -> Path:
        """Return the file of an evaluation or of metrics of a job."""
        return self.results / kind / f"{job.name}.json"


def selected(study: Study, only: Sequence[str] = (), shard: str | None = None) -> list[Job]:
    """Return the jobs that `only` names, all by default, and of these a shard.

    Jobs that train on pseudo-labels are in the shard of the job that writes them.

    Raises:
        ValueError: for a name that does not exist, or a shard that is not "i/n", 1 ≤ i ≤ n.
    """
    known = job_names(study.jobs)
    for name in only:
        if name not in known:
            raise ValueError(did_you_mean("only", name, known))
    jobs = [job for job in study.jobs if not only or job.is_in(only)]
    if shard is None:
        return jobs
    numbers = re.fullmatch(r"(\d{1,6})/(\d{1,6})", str(shard))
    index, count = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    require(1 <= index <= count, "shard", shard, "i/n with 1 ≤ i ≤ n, as 2/4")
    groups: dict[str, int] = {}
    for job in jobs:
        teachers = [groups[name] for name in job.pseudo.values() if name in groups]
        groups[job.name] = teachers[0] if teachers else len(set(groups.values()))
    return [job for job in jobs if groups[job.name] % count == index - 1]


@contextmanager
def threads_set(threads: int | None) -> Iterator[None]:
    """Compute with this many CPU threads inside; None leaves them as they are."""
    before = torch.get_num_threads()
    if threads is not None:
        require_at_least(1, threads=threads)
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_turn(
    study: Study, jobs: Sequence[Job], folders: StudyFolders, settings: Table
) -> dict[str, str]:
    """Do jobs one after the other; return the reasons of those that failed, by name.

    A job that another process is doing comes again at the end: it may be done by then.

    Arguments:
        settings: device and progress of training and evaluation.
    """
    failed: dict[str, str] = {}
    waiting, again = [*jobs], []
    while waiting or again:
        job, last = (waiting.pop(0), False) if waiting else (again.pop(0), True)
        if reason := failed_teacher(job, failed):
            failed[job.name] = reason
            continue
        try:
            do_job(study, job, folders, settings)
        except Locked as error:
            if last:
                failed[job.name] = error_text(error)
            else:
                again.append(job)
        except Exception as error:  # foreign pieces may raise anything; the others are to go on
            if under_torchrun():  # the other processes wait for this one: torchrun must end them
                raise
            failed[job.name] = error_text(error)
    return failed


def under_torchrun() -> bool:
    """Return whether torchrun started this process among several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def failed_teacher(job: Job, failed: Mapping[str, str]) -> str:
    """Return why a job cannot begin: a run whose pseudo-labels it needs has failed; or ""."""
    names = [name for name in job.pseudo.values() if name in failed]
    return f"{names[0]}, whose pseudo-labels it needs, failed" if names else ""


def error_text(error: BaseException) -> str:
    """Return an error in one line: its kind where the caller is not at fault."""
    text = printable(error, 500)
    kind = "" if isinstance(error, ValueError | FileNotFoundError) else type(error).__name__
    return ": ".join(filter(None, (kind, text)))


def do_job(study: Study, job: Job, folders: StudyFolders, settings: Table) -> None:
    """Train and evaluate one job, as far as that is not done yet."""
    for name, table in study.tables_for(job, study.evaluations):
        file = folders.result(name, job)
        if not file.is_file():
            folder = trained_run(study, job, folders, settings)
            evaluate.evaluate(folder, **table, out=file, **settings)
    for name, table in study.tables_for(job, study.metrics):
        file = folders.result(name, job)
        if not are_complete(file, table):
            folder = trained_run(study, job, folders, settings)
            arguments = {k: table[k] for k in ("off", "n", "split")}
            arguments["arguments"] = table["set"]
            metrics.metrics(folder, table["names"], **arguments, out=file, **settings)


def is_done(study: Study, job: Job, folders: StudyFolders) -> bool:
    """Return whether all results of a job are there."""
    evaluations = study.tables_for(job, study.evaluations)
    measured = study.tables_for(job, study.metrics)
    return all(folders.result(name, job).is_file() for name, _ in evaluations) and all(
        are_complete(folders.result(name, job), table) for name, table in measured
    )


def are_complete(file: Path, table: Table) -> bool:
    """Return whether a file holds all metrics of a table, on all its data sets."""
    if not file.is_file():
        return False
    report = MetricReport.load(file)
    data = {report.dataset, *(profile.data for profile in report.profiles)}
    names = {row.name for row in report.rows}
    return names >= metrics.checked_metrics(table["names"]).keys() and data >= {*table["off"]}


def trained_run(study: Study, job: Job, folders: StudyFolders, settings: Table) -> Path:
    """Train a job's run to its last epoch, if it is not yet; return its folder."""
    folder, recipe = folders.run(job.name), load_recipe(job.recipe, set=job.set)
    if is_complete(read_log(folder), recipe.tables["train"]):
        study_match.check_run(folder, job, recipe)
        return folder
    changes = list(job.set)
    for key, name in job.pseudo.items():
        labels = folders.run(name) / FILE
        if not labels.is_file():
            teacher = next(one for one in study.jobs if one.name == name)
            run = trained_run(study, teacher, folders, settings)
            label(run, device=settings["device"])
        changes.append(f"{key}={labels}")
    return train.train(load_recipe(job.recipe, set=changes), out=folder, resume=True, **settings)
