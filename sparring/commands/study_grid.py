"""Expand one run of a study into its trainings: values, changes that are on or off, and seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from ..component import did_you_mean, require
from ..config.recipe import load_recipe
from ..config.validation import Table, check, located
from ..runtime.files import plain_name
from .pseudo_label import FILE

MOST_LETTERS = 300
ONE_LINE = f"one line of at most {MOST_LETTERS} printable letters"


class Job(NamedTuple):
    """Describe one training of a study.

    Arguments:
        name: of the run with its seed; its folder and its results have this name.
        run: its key in `[runs]`, with the changes of its grid.
        pseudo: keys of the recipe, and the jobs whose pseudo-labels go there.
        label: the name of the run for readers.
    """

    name: str
    run: str
    seed: int
    recipe: str
    set: tuple[str, ...]
    pseudo: dict[str, str]
    label: str

    def is_in(self, only: Sequence[str]) -> bool:
        """Return whether `only` holds the job's name, or that of its run at any seed."""
        return self.run in only or self.name in only


def _run_keys(
    *,
    recipe: str,
    set: list[str] = [],
    seeds: list[int] | None = None,
    grid: dict[str, str] = {},
    values: dict[str, list[Any]] = {},
    pseudo: dict[str, str] = {},
    label: str = "",
    labels: dict[str, str] = {},
) -> None:
    """The keys of a run.

    Arguments:
        label, labels: the run's name for readers, default: its key; of each change of the grid, for
            the names of its combinations.
        set: changes to the recipe.
        grid: named changes; the study has a run for every combination of them.
        values: keys of the recipe, each with the values to try; the study has a run for every
            combination, named as `trades-beta-3`.
        pseudo: keys of the recipe, as `data.mix.0.labels`, and the run of the study that writes
            this file of pseudo-labels at the same seed.
    """


def checked_run(name: str, table: object) -> Table:
    """Return a checked table of a run."""
    checked = check(_run_keys, table, f"runs.{name}", without=())
    for key, values in checked["values"].items():
        path = f"runs.{name}.values.{key}"
        plain = all(isinstance(value, str | bool | int | float | list) for value in values)
        require(plain and len(values) > 0, path, values, "a list of values, with one at least")
        require(key != "recipe.seed", path, values, "replaced by seeds = [...]")
        different = len({_as_toml(value) for value in values}) == len(values)
        require(different, path, values, "a list of different values")
    return checked


def jobs_of_run(name: str, table: Table, shared: Table, folder: Path) -> Iterator[Job]:
    """Yield a run with every combination of its values and of its grid, at each of its seeds."""
    beside = folder / table["recipe"]
    origin = str(beside) if beside.is_file() else table["recipe"]
    grid = table["grid"]
    for chosen in product(*table["values"].values()):
        values = dict(zip(table["values"], chosen, strict=True))
        named = [name, *(_value_label(key, value, "-") for key, value in values.items())]
        for switches in product((False, True), repeat=len(grid)):
            on = [label for label, is_on in zip(grid, switches, strict=True) if is_on]
            # a radius is written 8/255, a name of files has no slash
            run = re.sub(r"(?<=\d)/(?=\d)", "-", "-".join([*named, *on]))
            run = plain_name(run, f"runs.{name}")
            shown = _label(name, table, values, on)
            set_values = [f"{key}={_as_toml(value)}" for key, value in values.items()]
            changes = (*shared["set"], *table["set"], *set_values, *(grid[label] for label in on))
            with located(f"runs.{run}"):
                load_recipe(origin, set=(*changes, *(f"{key}={FILE}" for key in table["pseudo"])))
            for seed in table.get("seeds", shared["seeds"]):
                labels = {key: f"{teacher}-seed{seed}" for key, teacher in table["pseudo"].items()}
                seeded = (*changes, f"recipe.seed={seed}")
                yield Job(f"{run}-seed{seed}", run, seed, origin, seeded, labels, shown)


def _as_toml(value: object) -> str:
    """Return a value as `--set` reads it.

    >>> _as_toml("kl"), _as_toml(True), _as_toml([0.5, 1])
    ('kl', 'true', '[0.5, 1]')
    """
    return value if isinstance(value, str) else json.dumps(value)


def _value_label(key: str, value: object, between: str) -> str:
    """Return a value with the last part of its key.

    >>> _value_label("method.beta", 0.5, " ")
    'beta 0.5'
    """
    return f"{key.rpartition('.')[2]}{between}{_as_toml(value)}"


def _label(name: str, table: Table, values: Table, labels_on: Sequence[str]) -> str:
    """Return a run's name for readers: its label, with its values and the changes that are on."""
    for change in table["labels"]:
        if change not in table["grid"]:
            raise ValueError(did_you_mean(f"runs.{name}.labels", change, table["grid"]))
    if not (table["label"] or table["labels"] or values):
        return "-".join([name, *labels_on])
    shown = [_value_label(key, value, " ") for key, value in values.items()]
    changes = ", ".join([*shown, *(table["labels"].get(on, on) for on in labels_on)])
    text = (table["label"] or name) + (f" ({changes})" if changes else "")
    return readers_text(text, f"runs.{name}.label")


def readers_text(text: str, key: str) -> str:
    """Return a text for readers, if it can be printed on one line."""
    require(text.isprintable() and len(text) <= MOST_LETTERS, key, text[:40], ONE_LINE)
    return text
