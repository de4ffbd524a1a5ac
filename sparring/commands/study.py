"""A study: several recipes, at several seeds, trained and measured alike; one table at the end."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .. import reporting
from ..component import did_you_mean
from ..config.recipe import Recipe, load_recipe
from ..config.validation import Table, check, located
from ..results.metric_report import MetricReport
from ..results.result import Result
from . import evaluate, metrics, train
from .pseudo_label import FILE, label

T = TypeVar("T", Result, MetricReport)
TABLES = ("runs", "evaluations", "metrics")
TRAINED = ("method", "objective", "weights", "train")  # what no evaluation changes


def _study(*, seeds: list[int] = [0], set: list[str] = []) -> None:
    """The keys of a study itself: for all its runs."""


def _runs(
    *,
    recipe: str,
    set: list[str] = [],
    seeds: list[int] | None = None,
    grid: dict[str, str] = {},
    pseudo: dict[str, str] = {},
) -> None:
    """The keys of a run: how it differs from its recipe; `grid` names changes, and the run is made
    with every combination of them; `pseudo` says which keys, as `data.mix.0.labels`, are the file
    of pseudo-labels that another run of the study makes at the same seed."""


def _evaluations(
    *,
    suite: str | None = None,
    eps: list[float] | None = None,
    n: int | None = None,
    split: str = "test",
    precision: str = "float32",
    compile: bool = False,
    set: list[str] = [],
    only: list[str] | None = None,
) -> None:
    """The keys of an evaluation; `only` names the runs it is for, with or without seed."""


def _metrics(
    *,
    names: list[str] = [],
    set: list[str] = [],
    off: list[str] = [],
    n: int = 200,
    split: str = "test",
    only: list[str] | None = None,
) -> None:
    """The keys of metrics: `names` of them, all when omitted, and their arguments in `set`."""


class Job(NamedTuple):
    """One training of a study.

    Arguments:
        name: of the run, its seed included: that of its folder and its results.
        run: its key in `[runs]`.
        pseudo: keys of the recipe, and the names of the jobs whose pseudo-labels go there.
    """

    name: str
    run: str
    seed: int
    recipe: str
    set: tuple[str, ...]
    pseudo: dict[str, str]

    def named(self, only: Sequence[str]) -> bool:
        """Whether its name, or that of its run at any seed, is among these."""
        return self.run in only or self.name in only


class Study(NamedTuple):
    """A checked study: its jobs in order, a seed after the other, and what is measured, by name."""

    name: str
    jobs: list[Job]
    evaluations: dict[str, Table]
    metrics: dict[str, Table]

    def of(self, job: Job, tables: Mapping[str, Table]) -> Iterator[tuple[str, Table]]:
        """The evaluations, or the metrics, that are made of a job."""
        for name, table in tables.items():
            if job.named(table.get("only", [job.run])):
                yield name, {k: v for k, v in table.items() if k != "only"}


class Found(NamedTuple):
    """What there is of a study, by the names of its evaluations and metrics, in order of jobs."""

    results: dict[str, list[Result]]
    measures: dict[str, list[MetricReport]]


def load(path: str | Path) -> Study:
    """The study of a `.toml` file; all its recipes are checked at once.

        seeds = [0, 1]
        set = ["train.epochs=5"]             # of every run
        [runs.pgd-at]
        recipe = "mnist-pgd-at"              # a name, or a file beside the study
        set = ["threat.eps=0.2"]
        grid = { mart = "method=MART" }      # with and without: runs pgd-at and pgd-at-mart
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
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    every = check(_study, {k: v for k, v in tables.items() if k not in TABLES}, "study", without=())
    runs = {n: check(_runs, t, f"runs.{n}", without=()) for n, t in _tables(tables, "runs")}
    evaluations = {
        n: check(_evaluations, t, f"evaluations.{n}", without=())
        for n, t in _tables(tables, "evaluations")
    }
    more = tables.get("metrics") and _tables(tables, "metrics")
    measures = {n: _chosen(n, t, evaluations) for n, t in more or ()}
    jobs = [job for name, table in runs.items() for job in _jobs(name, table, every, path.parent)]
    known = _names(jobs)
    for kind, chosen in (("evaluations", evaluations), ("metrics", measures)):
        for name, table in chosen.items():
            for one in table.get("only", []):
                if one not in known:
                    raise ValueError(did_you_mean(f"{kind}.{name}.only", one, known))
    order = [*dict.fromkeys(job.seed for job in jobs)]
    jobs.sort(key=lambda job: order.index(job.seed))
    _teachers(jobs)
    return Study(path.stem, jobs, evaluations, measures)


def _chosen(name: str, table: Table, evaluations: Mapping[str, Table]) -> Table:
    """A checked table of metrics, whose results have a folder of their own."""
    where = f"metrics.{name}"
    if name in evaluations:
        raise ValueError(f"{where}: there are evaluations of this name, take another")
    found = check(_metrics, table, where, without=())
    with located(where):
        metrics.chosen(found["names"], found["set"])
    return found


def _teachers(jobs: Sequence[Job]) -> None:
    """Raise unless all whose pseudo-labels are asked for come before those who ask."""
    before: list[str] = []
    for job in jobs:
        for key, name in job.pseudo.items():
            if name not in before:
                raise ValueError(did_you_mean(f"runs.{job.run}.pseudo.{key}", name, before))
        before.append(job.name)


def _jobs(name: str, table: Table, every: Table, place: Path) -> Iterator[Job]:
    """A run with every combination of its grid, at each of its seeds."""
    beside = place / table["recipe"]
    origin = str(beside) if beside.is_file() else table["recipe"]
    grid = table["grid"]
    for made in product((False, True), repeat=len(grid)):
        chosen = [label for label, on in zip(grid, made, strict=True) if on]
        run = "-".join([name, *chosen])
        changes = (*every["set"], *table["set"], *(grid[label] for label in chosen))
        with located(f"runs.{run}"):
            load_recipe(origin, set=(*changes, *(f"{key}={FILE}" for key in table["pseudo"])))
        for seed in table.get("seeds", every["seeds"]):
            labels = {key: f"{teacher}-seed{seed}" for key, teacher in table["pseudo"].items()}
            own = (*changes, f"recipe.seed={seed}")
            yield Job(f"{run}-seed{seed}", run, seed, origin, own, labels)


def _tables(tables: Table, key: str) -> list[tuple[str, Any]]:
    found = tables.get(key, {})
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{key} is missing: a study needs one table [{key}.NAME] or more")
    return list(found.items())


def work(
    study: Study,
    *,
    runs: str | Path | None = None,
    results: str | Path | None = None,
    only: Sequence[str] = (),
    device: str | None = None,
    progress: bool = False,
) -> Found:
    """Train and measure what is not there yet, and give all there is.

    What is done is kept, what was cut goes on, so that the same call ends the work after a kill.

    Arguments:
        runs: where the run folders stand; `runs/STUDY` when omitted.
        results: where `EVALUATION/RUN.json` are written; `results/STUDY` when omitted.
        only: names of runs, with or without seed; all when empty.

    Raises:
        ValueError: for a name in `only` that does not exist, or a result whose training is another.
    """
    collect(study, results=results, only=only)  # before any work: what is there must be the study's
    place = Path("runs", study.name) if runs is None else Path(runs)
    how: Table = {"device": device, "progress": progress}
    out = _place(study, results)
    for job in _asked(study, only):
        for name, table in study.of(job, study.evaluations):
            file = out / name / f"{job.name}.json"
            if not file.is_file():
                folder = _trained(study, job, place, how)
                evaluate.evaluate(folder, **table, out=file, **how)
        for name, table in study.of(job, study.metrics):
            file = out / name / f"{job.name}.json"
            if not _complete(file, table):
                folder = _trained(study, job, place, how)
                names, given = table["names"], table["set"]
                rest = {k: table[k] for k in ("off", "n", "split")}
                metrics.metrics(folder, names, arguments=given, **rest, out=file, **how)
    return collect(study, results=results, only=only)


def page(study: Study, found: Found, path: str | Path) -> Path:
    """Write what was found as one page: the study's table, then what `sparring report` says, each
    result under the name of its run and evaluation; its path."""
    results = [
        replace(r, name=f"{r.name} · {kind}") if len(found.results) > 1 else r
        for kind, held in found.results.items()
        for r in held
    ]
    measures = [m for held in found.measures.values() for m in held]
    return reporting.page(
        results,
        path,
        title=f"Study {study.name}",
        metrics=measures,
        study=found.results,
    )


def collect(study: Study, *, results: str | Path | None = None, only: Sequence[str] = ()) -> Found:
    """What there is already; trains and measures nothing. Arguments and errors are `work`'s."""
    out = _place(study, results)
    found = Found({n: [] for n in study.evaluations}, {n: [] for n in study.metrics})
    for job in _asked(study, only):
        plan = load_recipe(job.recipe, set=job.set)
        _add(found.results, Result.load, plan, out, job, study.of(job, study.evaluations))
        _add(found.measures, MetricReport.load, plan, out, job, study.of(job, study.metrics))
    return found


def _add(
    into: dict[str, list[T]],
    read: Callable[[Path], T],
    plan: Recipe,
    out: Path,
    job: Job,
    tables: Iterator[tuple[str, Table]],
) -> None:
    """Append what was measured of a job, where it was."""
    for name, _ in tables:
        file = out / name / f"{job.name}.json"
        if file.is_file():
            held = read(file)
            _same(plan, held.recipe, file)
            into[name].append(held)


def _asked(study: Study, only: Sequence[str]) -> list[Job]:
    """The jobs that `only` names; all when it is empty."""
    known = _names(study.jobs)
    for name in only:
        if name not in known:
            raise ValueError(did_you_mean("only", name, known))
    return [job for job in study.jobs if not only or job.named(only)]


def _names(jobs: Sequence[Job]) -> set[str]:
    """What jobs can be called: by run, or by run and seed."""
    return {name for job in jobs for name in (job.run, job.name)}


def _place(study: Study, results: str | Path | None) -> Path:
    return Path("results", study.name) if results is None else Path(results)


def _complete(file: Path, table: Table) -> bool:
    """Whether a file holds all metrics that a table asks for, on all its data."""
    if not file.is_file():
        return False
    held = MetricReport.load(file)
    data = {held.dataset, *(profile.data for profile in held.profiles)}
    names = {row.name for row in held.rows}
    return names >= metrics.chosen(table["names"]).keys() and data >= {*table["off"]}


def _same(plan: Recipe, held: Table, file: Path) -> None:
    """Refuse what another version of the study left: its training is not this one."""
    for key in TRAINED:
        if _matter(held.get(key)) != _matter(plan.tables.get(key)):
            raise ValueError(
                f"{file} is of a run whose [{key}] is not the study's: remove it and its run "
                "folder, or give another --runs and --results"
            )


def _matter(table: Table | None) -> Table:
    """What of a table makes the training what it is: not whether it was compiled."""
    return {k: v for k, v in (table or {}).items() if k != "compile"}


def _trained(study: Study, job: Job, place: Path, how: Table) -> Path:
    """The folder of a job's run, trained to its last epoch."""
    folder = place / job.name
    log = folder / "log.jsonl"
    done = log.read_text(encoding="utf-8").count("\n") if log.is_file() else 0
    if done >= load_recipe(job.recipe, set=job.set).tables["train"]["epochs"]:
        return folder
    changes = list(job.set)
    for key, name in job.pseudo.items():
        labels = place / name / FILE
        if not labels.is_file():
            teacher = next(one for one in study.jobs if one.name == name)
            label(_trained(study, teacher, place, how), device=how["device"])
        changes.append(f"{key}={labels}")
    return train.train(load_recipe(job.recipe, set=changes), out=folder, resume=True, **how)
