"""Read and check the file of a study: its runs, seeds, evaluations and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..component import did_you_mean
from ..config.toml import read_toml
from ..config.validation import Table, check, located
from ..evaluation import EvaluationProtocol
from ..runtime.files import plain_name
from . import metrics, rehearsal
from .study_grid import Job, checked_run, jobs_of_run, readers_text

TABLES = ("runs", "evaluations", "metrics")
STUDY_KEYS = ("set", "only")  # of an evaluation, beside those of its protocol


def _study_keys(
    *,
    title: str = "",
    question: str = "",
    seeds: list[int] = [0],
    set: list[str] = [],
    jobs: int = 1000,
) -> None:
    """The keys of a study.

    Arguments:
        title, question: the heading of its page, and what it asks; default: its name, and nothing.
        jobs: how many trainings it may have; more are a slip in a grid more often than not.
    """


def _evaluation_keys(
    *, suite: str | None = None, set: list[str] = [], only: list[str] | None = None
) -> None:
    """The keys of an evaluation beside the fields of `EvaluationProtocol`; default of suite: the
    recipe's.

    Arguments:
        only: runs to evaluate, with or without seed; default: all.
    """


def _metric_keys(
    *,
    names: list[str] = [],
    set: list[str] = [],
    off: list[str] = [],
    n: int = 200,
    split: str = "test",
    only: list[str] | None = None,
) -> None:
    """The keys of metrics.

    Arguments:
        names: of metrics; default: all.
        set: their arguments, as `ebd.directions=50`.
    """


class Study(NamedTuple):
    """Hold a checked study: jobs ordered by seed; evaluations and metrics by name; its file."""

    name: str
    jobs: list[Job]
    evaluations: dict[str, Table]
    metrics: dict[str, Table]
    title: str
    question: str = ""
    file: Path | None = None

    @property
    def labels(self) -> dict[str, str]:
        """Return the name of each run for readers."""
        return {job.run: job.label for job in self.jobs}

    def tables_for(self, job: Job, tables: Mapping[str, Table]) -> Iterator[tuple[str, Table]]:
        """Yield name and table of the evaluations, or of the metrics, that a job gets."""
        for name, table in tables.items():
            if job.is_in(table.get("only", [job.run])):
                yield name, {k: v for k, v in table.items() if k != "only"}


def load(path: str | Path) -> Study:
    """Read and check the study of a `.toml` file, with all its recipes.

        title = "PGD-AT and MART"
        question = "Does MART withstand AutoAttack better than PGD-AT?"
        seeds = [0, 1]
        set = ["train.epochs=5"]             # of every run
        [runs.pgd-at]
        label = "PGD-AT"                     # in tables and pictures
        recipe = "mnist-pgd-at"              # a name, or a file beside the study
        set = ["threat.eps=0.2"]
        grid = { mart = "method=MART" }      # off and on: runs pgd-at and pgd-at-mart
        [runs.trades]
        recipe = "mnist-trades"
        values = { "method.beta" = [3, 6] }  # each: runs trades-beta-3 and trades-beta-6
        [evaluations.strong]
        suite = "autoattack"
        n = 1000
        only = ["pgd-at"]
        [metrics.distances]
        names = ["deepfool-l2", "ebd"]
        set = ["ebd.directions=50"]

    Raises:
        ValueError: for a wrong key, type or name; with its path, the nearest and what is allowed.
        FileNotFoundError: if there is no such file.
    """
    path = Path(path)
    tables = read_toml(path)
    study_keys = {k: v for k, v in tables.items() if k not in TABLES}
    shared = check(_study_keys, study_keys, "study", without=())
    runs = {n: checked_run(n, t) for n, t in _tables(tables, "runs")}
    evaluations = {n: _evaluation(n, t) for n, t in _tables(tables, "evaluations")}
    metric_tables = _tables(tables, "metrics") if tables.get("metrics") else []
    metric_reports = {n: _metrics(n, t, evaluations) for n, t in metric_tables}
    study_name = plain_name(path.stem, "study")
    rehearsal.check_number(runs, shared)
    expanded = (jobs_of_run(name, table, shared, path.parent) for name, table in runs.items())
    jobs = [job for run_jobs in expanded for job in run_jobs]
    known = job_names(jobs)
    for kind, checked in (("evaluations", evaluations), ("metrics", metric_reports)):
        for name, table in checked.items():
            for one in table.get("only", []):
                if one not in known:
                    raise ValueError(did_you_mean(f"{kind}.{name}.only", one, known))
    # Seed by seed, so that a study cut short has every run at its first seeds.
    order = [*dict.fromkeys(job.seed for job in jobs)]
    jobs.sort(key=lambda job: order.index(job.seed))
    _check_order(jobs)
    title, question = (readers_text(shared[key], key) for key in ("title", "question"))
    return Study(
        study_name,
        jobs,
        evaluations,
        metric_reports,
        title or f"Study {study_name}",
        question,
        path.resolve(),
    )


def _evaluation(name: str, table: object) -> Table:
    """Return a checked table of an evaluation: the options it sets, all others the recipe's."""
    path = f"evaluations.{name}"
    checked = check(EvaluationProtocol, table, path, also=(_evaluation_keys,), without=())
    assert isinstance(table, Mapping)
    options = {key: value for key, value in checked.items() if key in table}
    with located(path):
        protocol = EvaluationProtocol(**{k: v for k, v in options.items() if k not in STUDY_KEYS})
        rehearsal.check_samples(protocol.n, protocol.split)
    return options


def _metrics(name: str, table: Table, evaluations: Mapping[str, Table]) -> Table:
    path = f"metrics.{name}"
    if name in evaluations:  # their results would share a folder
        raise ValueError(f"{path}: there are evaluations of this name, take another")
    checked = check(_metric_keys, table, path, without=())
    with located(path):
        metrics.checked_metrics(checked["names"], checked["set"])
        rehearsal.check_metrics(checked)
    return checked


def _check_order(jobs: Sequence[Job]) -> None:
    """Raise a `ValueError` unless every job comes after those whose pseudo-labels it trains on."""
    before: list[str] = []
    for job in jobs:
        if job.name in before:
            raise ValueError(
                f"runs.{job.run} is there twice at seed {job.seed}: name runs, grids and seeds so "
                "that each job has a name of its own"
            )
        for key, name in job.pseudo.items():
            if name not in before:
                raise ValueError(did_you_mean(f"runs.{job.run}.pseudo.{key}", name, before))
        before.append(job.name)


def _tables(tables: Table, key: str) -> list[tuple[str, Any]]:
    named = tables.get(key, {})
    if not isinstance(named, dict) or not named:
        raise ValueError(f"{key} is missing: a study needs one table [{key}.NAME] or more")
    return [(plain_name(name, key), table) for name, table in named.items()]


def job_names(jobs: Sequence[Job]) -> set[str]:
    """Return the names of jobs, and those of their runs at any seed."""
    return {name for job in jobs for name in (job.run, job.name)}
