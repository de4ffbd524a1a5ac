"""Train and evaluate several recipes and seeds under one protocol, and tabulate them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from .. import reporting
from ..component import did_you_mean
from ..config.recipe import Recipe, load_recipe
from ..config.toml import read_toml
from ..config.validation import Table, check, located
from ..data import Source
from ..evaluation import EvaluationProtocol
from ..results.metric_report import MetricReport
from ..results.result import Result
from ..runtime.files import plain_name
from ..runtime.first_edition import upgrade
from ..training.run_folder import read_log
from . import evaluate, metrics, rehearsal, train
from .pseudo_label import FILE, label

TABLES = ("runs", "evaluations", "metrics")
STUDY_KEYS = ("set", "only")  # of an evaluation, beside those of its protocol
TRAINING_TABLES = ("method", "objective", "weights", "train")  # which no evaluation changes


def _study_keys(*, seeds: list[int] = [0], set: list[str] = [], jobs: int = 1000) -> None:
    """The keys of a study.

    Arguments:
        jobs: how many trainings it may have; more are a slip in a grid more often than not.
    """


def _run_keys(
    *,
    recipe: str,
    set: list[str] = [],
    seeds: list[int] | None = None,
    grid: dict[str, str] = {},
    pseudo: dict[str, str] = {},
) -> None:
    """The keys of a run.

    Arguments:
        set: changes to the recipe.
        grid: named changes; the study has a run for every combination of them.
        pseudo: keys of the recipe, as `data.mix.0.labels`, and the run of the study that writes
            this file of pseudo-labels at the same seed.
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


class Job(NamedTuple):
    """Describe one training of a study.

    Arguments:
        name: of the run with its seed; its folder and its results have this name.
        run: its key in `[runs]`, with the changes of its grid.
        pseudo: keys of the recipe, and the jobs whose pseudo-labels go there.
    """

    name: str
    run: str
    seed: int
    recipe: str
    set: tuple[str, ...]
    pseudo: dict[str, str]

    def is_in(self, only: Sequence[str]) -> bool:
        """Return whether `only` holds the job's name, or that of its run at any seed."""
        return self.run in only or self.name in only


class Study(NamedTuple):
    """Hold a checked study: jobs ordered by seed; evaluations and metrics by name."""

    name: str
    jobs: list[Job]
    evaluations: dict[str, Table]
    metrics: dict[str, Table]

    def tables_for(self, job: Job, tables: Mapping[str, Table]) -> Iterator[tuple[str, Table]]:
        """Yield name and table of the evaluations, or of the metrics, that a job gets."""
        for name, table in tables.items():
            if job.is_in(table.get("only", [job.run])):
                yield name, {k: v for k, v in table.items() if k != "only"}


class StudyResults(NamedTuple):
    """Hold the results of a study by evaluation or metrics table, in order of jobs."""

    results: dict[str, list[Result]]
    metric_reports: dict[str, list[MetricReport]]


def load(path: str | Path) -> Study:
    """Read and check the study of a `.toml` file, with all its recipes.

        seeds = [0, 1]
        set = ["train.epochs=5"]             # of every run
        [runs.pgd-at]
        recipe = "mnist-pgd-at"              # a name, or a file beside the study
        set = ["threat.eps=0.2"]
        grid = { mart = "method=MART" }      # off and on: runs pgd-at and pgd-at-mart
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
    runs = {n: check(_run_keys, t, f"runs.{n}", without=()) for n, t in _tables(tables, "runs")}
    evaluations = {n: _evaluation(n, t) for n, t in _tables(tables, "evaluations")}
    metric_tables = _tables(tables, "metrics") if tables.get("metrics") else []
    metric_reports = {n: _metrics(n, t, evaluations) for n, t in metric_tables}
    study_name = plain_name(path.stem, "study")
    rehearsal.check_number(runs, shared)
    jobs = [job for name, table in runs.items() for job in _jobs(name, table, shared, path.parent)]
    known = _names(jobs)
    for kind, checked in (("evaluations", evaluations), ("metrics", metric_reports)):
        for name, table in checked.items():
            for one in table.get("only", []):
                if one not in known:
                    raise ValueError(did_you_mean(f"{kind}.{name}.only", one, known))
    # Seed by seed, so that a study cut short has every run at its first seeds.
    order = [*dict.fromkeys(job.seed for job in jobs)]
    jobs.sort(key=lambda job: order.index(job.seed))
    _check_order(jobs)
    return Study(study_name, jobs, evaluations, metric_reports)


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


def _jobs(name: str, table: Table, shared: Table, folder: Path) -> Iterator[Job]:
    """Yield a run with every combination of its grid, at each of its seeds."""
    beside = folder / table["recipe"]
    origin = str(beside) if beside.is_file() else table["recipe"]
    grid = table["grid"]
    for switches in product((False, True), repeat=len(grid)):
        labels_on = [label for label, on in zip(grid, switches, strict=True) if on]
        run = plain_name("-".join([name, *labels_on]), f"runs.{name}")
        changes = (*shared["set"], *table["set"], *(grid[label] for label in labels_on))
        with located(f"runs.{run}"):
            load_recipe(origin, set=(*changes, *(f"{key}={FILE}" for key in table["pseudo"])))
        for seed in table.get("seeds", shared["seeds"]):
            labels = {key: f"{teacher}-seed{seed}" for key, teacher in table["pseudo"].items()}
            seeded = (*changes, f"recipe.seed={seed}")
            yield Job(f"{run}-seed{seed}", run, seed, origin, seeded, labels)


def _tables(tables: Table, key: str) -> list[tuple[str, Any]]:
    named = tables.get(key, {})
    if not isinstance(named, dict) or not named:
        raise ValueError(f"{key} is missing: a study needs one table [{key}.NAME] or more")
    return [(plain_name(name, key), table) for name, table in named.items()]


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
    title = f"Study {study.name}"
    return reporting.page(named, path, title=title, metrics=metric_reports, study=results.results)


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
    known = _names(study.jobs)
    for name in only:
        if name not in known:
            raise ValueError(did_you_mean("only", name, known))
    return [job for job in study.jobs if not only or job.is_in(only)]


def _names(jobs: Sequence[Job]) -> set[str]:
    return {name for job in jobs for name in (job.run, job.name)}


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
