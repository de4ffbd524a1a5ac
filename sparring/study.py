"""A study: several recipes, at several seeds, trained and measured alike; one table at the end."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from . import measure, run
from . import recipe as recipes
from .evaluation import Result, compare
from .part import nearest
from .reporting import words
from .schema import Table, check, located

TABLES = ("runs", "evaluations")
TRAINED = ("method", "objective", "weights", "train")  # what no evaluation changes


def _study(*, seeds: list[int] = [0], set: list[str] = []) -> None:  # noqa: B006
    """The keys of a study itself: for all its runs."""


def _runs(
    *,
    recipe: str,
    set: list[str] = [],  # noqa: B006
    seeds: list[int] | None = None,
    grid: dict[str, str] = {},  # noqa: B006
) -> None:
    """The keys of a run: how it differs from its recipe; `grid` names changes, and the run is made
    with every combination of them."""


def _evaluations(
    *,
    suite: str | None = None,
    eps: list[float] | None = None,
    n: int | None = None,
    split: str = "test",
    precision: str = "float32",
    compile: bool = False,
    set: list[str] = [],  # noqa: B006
    only: list[str] | None = None,
) -> None:
    """The keys of an evaluation; `only` names the runs it is for."""


class Job(NamedTuple):
    """One training of a study.

    Arguments:
        name: of the run, its seed included: that of its folder and its results.
        run: its key in `[runs]`.
    """

    name: str
    run: str
    seed: int
    recipe: str
    set: tuple[str, ...]


class Study(NamedTuple):
    """A checked study: its jobs in order, a seed after the other, and its evaluations by name."""

    name: str
    jobs: list[Job]
    evaluations: dict[str, Table]

    def measures(self, job: Job) -> Iterator[tuple[str, Table]]:
        """The evaluations of a job."""
        for name, table in self.evaluations.items():
            if job.run in table.get("only", [job.run]):
                yield name, {k: v for k, v in table.items() if k != "only"}


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
    jobs = [job for name, table in runs.items() for job in _jobs(name, table, every, path.parent)]
    known = [*dict.fromkeys(job.run for job in jobs)]
    for name, table in evaluations.items():
        for one in table.get("only", []):
            if one not in known:
                raise ValueError(nearest(f"evaluations.{name}.only", one, known))
    order = [*dict.fromkeys(job.seed for job in jobs)]
    return Study(path.stem, sorted(jobs, key=lambda job: order.index(job.seed)), evaluations)


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
            recipes.load(origin, set=changes)
        for seed in table.get("seeds", every["seeds"]):
            yield Job(f"{run}-seed{seed}", run, seed, origin, (*changes, f"recipe.seed={seed}"))


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
) -> dict[str, list[Result]]:
    """Train and measure what is not there yet, and give all results by evaluation.

    What is done is kept, what was cut goes on, so that the same call ends the work after a kill.

    Arguments:
        runs: where the run folders stand; `runs/STUDY` when omitted.
        results: where `EVALUATION/RUN.json` are written; `results/STUDY` when omitted.
        only: names of runs, with or without seed; all when empty.

    Raises:
        ValueError: for a name in `only` that does not exist, or a result whose training is another.
    """
    place = Path("runs", study.name) if runs is None else Path(runs)
    out = Path("results", study.name) if results is None else Path(results)
    known = [*dict.fromkeys(n for job in study.jobs for n in (job.run, job.name))]
    for name in only:
        if name not in known:
            raise ValueError(nearest("only", name, known))
    found: dict[str, list[Result]] = {name: [] for name in study.evaluations}
    for job in study.jobs:
        if only and not {job.run, job.name} & {*only}:
            continue
        for name, table in study.measures(job):
            file = out / name / f"{job.name}.json"
            plan = recipes.load(job.recipe, set=job.set)
            if not file.is_file():
                folder = _trained(plan, place / job.name, device, progress)
                measure.evaluate(folder, **table, out=file, device=device, progress=progress)
            result = Result.load(file)
            _same(plan, result, file)
            found[name].append(result)
    return found


def _same(plan: recipes.Recipe, result: Result, file: Path) -> None:
    """Refuse what another version of the study left: its training is not this one."""
    for key in TRAINED:
        if _matter(result.recipe.get(key)) != _matter(plan.tables.get(key)):
            raise ValueError(
                f"{file} is of a run whose [{key}] is not the study's: remove it and its run "
                "folder, or give another --runs and --results"
            )


def _matter(table: Table | None) -> Table:
    """What of a table makes the training what it is: not whether it was compiled."""
    return {k: v for k, v in (table or {}).items() if k != "compile"}


def _trained(plan: recipes.Recipe, folder: Path, device: str | None, progress: bool) -> Path:
    """The run of a recipe, at its last epoch."""
    log = folder / "log.jsonl"
    done = log.read_text(encoding="utf-8").count("\n") if log.is_file() else 0
    if done >= plan.tables["train"]["epochs"]:
        return folder
    return run.train(plan, out=folder, resume=True, device=device, progress=progress)


def table(found: Mapping[str, Sequence[Result]]) -> str:
    """Markdown: a row a run, a column an evaluation, accuracies in %.

    Of one seed with its 95 % interval over samples, of several the mean ± standard deviation over
    seeds. Minutes are those of training, wall time.
    """
    heads = ["run", "clean", *found, "minutes"]
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    names = [r.name.rpartition("-seed")[0] for results in found.values() for r in results]
    for name in dict.fromkeys(names):
        own = [[r for r in rs if r.name.rpartition("-seed")[0] == name] for rs in found.values()]
        most = max(own, key=len)
        minutes = f"{sum(r.train['seconds'] for r in most) / len(most) / 60:.1f}"
        cells = [_cell(most, clean=True), *(_cell(rs, clean=False) for rs in own), minutes]
        lines.append(" | ".join([f"`{name}`", *cells]))
    return "\n".join(f"| {line} |" for line in lines)


def _cell(results: Sequence[Result], *, clean: bool) -> str:
    if not results:
        return "–"
    if len(results) == 1:
        return words.interval(results[0].clean if clean else results[0].robust)
    spread = compare.seeds(results, clean=clean)
    return f"{100 * spread.mean:.2f} ± {100 * spread.std:.2f} ({spread.count})"
