"""Tell whether a run or a result on disk was made by the settings that a study has now."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..config.overrides import in_tables, override
from ..config.recipe import Recipe, load_recipe
from ..config.registry import complete
from ..config.validation import Table, check
from ..metrics import metric_named
from ..results.metric_report import MetricReport
from ..results.result import Result
from ..runtime.first_edition import upgrade
from ..runtime.fractions import format_number
from . import metrics
from .study_grid import Job

WHOLE = ("method", "objective", "weights", "train")  # tables that no evaluation changes
PARTS = ("risk", "attack", "threat", "model", "data")  # which a run or an evaluation may add to
FILLED = ("threat", "model")  # of these, what the data tell


def check_run(folder: Path, job: Job, recipe: Recipe) -> None:
    """Raise `ValueError` for a run folder that another version of the study has trained.

    Arguments:
        recipe: of the job, as the study has it now.
    """
    _check(recipe.tables, load_recipe(folder).tables, f"{folder}", PARTS, job)


def check_result(file: Path, job: Job, recipe: Recipe, result: Table, evaluation: Table) -> None:
    """Raise `ValueError` for a result whose run another version of the study has trained.

    Arguments:
        result: the recipe in the result.
        evaluation: the study's table of it: what it sets is no difference.
    """
    trained = upgrade(result)
    names = {path.partition(".")[0] for path in _paths(evaluation.get("set", []))}
    # A result of the first edition has the same training under other keys.
    parts = [name for name in PARTS if name not in names] if trained == result else []
    _check(recipe.tables, trained, f"{file}", parts, job)


def check_protocol(file: Path, result: Result, evaluation: Table) -> None:
    """Raise `ValueError` for a result of another suite, split, radius or more samples than the
    study's table of its evaluation has."""
    made: Table = {"suite": result.suite.partition("+")[0], "split": result.split}
    made |= {"eps": _radii(r.eps for r in result.by_eps if r.eps is not None), "n": result.n}
    planned = {key: evaluation[key] for key in made if evaluation.get(key)}
    if "eps" in planned:
        given = planned["eps"]
        planned["eps"] = _radii(given if isinstance(given, list) else [given])
    _require_same(file, "evaluated", planned, made)


def check_metrics(file: Path, report: MetricReport, table: Table) -> None:
    """Raise `ValueError` for metrics of another split, other arguments or more samples than the
    study's table of them has."""
    made: Table = {"split": report.split, "n": report.n}
    planned: Table = {key: table[key] for key in made}
    given = metrics.checked_metrics(table["names"], table["set"])
    for row in (row for row in report.rows if row.name in given):
        without = metrics.SUPPLIED
        arguments = check(metric_named(row.name), given[row.name], row.name, without=without)
        # only what both have: a later version of the package adds arguments
        for key in (key for key in arguments if key in row.config):
            made[f"{row.name}.{key}"] = row.config[key]
            planned[f"{row.name}.{key}"] = arguments[key]
    _require_same(file, "measured", planned, made)


def _radii(eps: Iterable[float]) -> str:
    """Return radii in rising order, each once, as an evaluation takes them."""
    return ", ".join(dict.fromkeys(map(format_number, sorted(eps))))


def _require_same(file: Path, done: str, planned: Table, made: Table) -> None:
    """Raise `ValueError` for a planned value that a result was not made with."""
    for key, value in planned.items():
        fewer = key == "n" and made[key] < value  # the set may have no more
        if made[key] != value and not fewer:
            raise ValueError(
                f"{file} was {done} with {key} = {made[key]}, and the study has {value}: remove "
                "it, or give another --results"
            )


def check_alike(name: str, results: Sequence[Result]) -> None:
    """Raise `ValueError` for results of one evaluation that were not measured alike."""
    kinds = {(r.suite, r.suite_version, r.split, r.n) for r in results}
    if len(kinds) > 1:
        shown = "; ".join(f"{s} v{v} on {n} of {split}" for s, v, split, n in sorted(kinds))
        raise ValueError(
            f"evaluations.{name} has results of {shown}, which make no mean: remove those of the "
            "one, or give another --results"
        )


def _check(planned: Table, trained: Table, where: str, parts: Collection[str], job: Job) -> None:
    for table in (*WHOLE, *parts):
        if table in WHOLE:
            one, other = (_whole(tables.get(table) or {}, table) for tables in (planned, trained))
            same = one == other
        else:
            same = _agree(planned.get(table), trained.get(table), table, job)
        if not same:
            raise ValueError(
                f"{where} is of a run whose [{table}] is not the study's: remove it and its run "
                "folder, or give another --runs and --results"
            )


def _whole(table: Table, name: str) -> dict[str, Any]:
    """Return the values of a table by dotted path; without `compile`, which changes no training.

    A method of an earlier version has the defaults of the arguments that came later.
    """
    if name == "method":
        with suppress(ValueError):  # from outside, or of another version: as it is
            table = complete(name, table, name)
    return dict(_leaves({k: v for k, v in table.items() if k != "compile"}, name))


def _agree(planned: Any, trained: Any, table: str, job: Job) -> bool:
    """Return whether two tables have the same values where both have one, and for all keys that
    the study sets.

    A run adds to model and threat what the data tell, as the number of classes; a later version of
    the package adds arguments.
    """
    if not planned or not trained:
        return bool(planned) == bool(trained)
    one, other = dict(_leaves(planned, table)), dict(_leaves(trained, table))
    for leaves in (one, other):  # a set may lie in another folder today
        leaves |= {k: Path(str(leaves[k])).name for k in ("data.name",) if k in leaves}
    keys = one.keys() & other.keys() | (one.keys() & {*_set_by(job)})
    if table not in FILLED:
        keys |= other.keys() - one.keys()
    absent = object()
    return all(one.get(k, absent) == other.get(k, absent) for k in keys - {*job.pseudo})


def _set_by(job: Job) -> Iterator[str]:
    """Yield the dotted paths of the values that a job sets."""
    for path, value in map(override, job.set):
        yield from (key for key, _ in _leaves(value, in_tables(path)))


def _paths(changes: Iterable[str]) -> Iterator[str]:
    """Yield the dotted paths of changes, as they stand in the tables."""
    return (in_tables(override(change)[0]) for change in changes)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables and lists by dotted path, the length of a list too."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        yield f"{path}.length", len(value)
        for k, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{k}")
    else:  # a result writes an infinite number as null
        yield path, None if isinstance(value, float) and not math.isfinite(value) else value
