"""Train on points in the plane, where the boundary can be drawn and measured exactly."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..attacks import PGD
from ..component import did_you_mean, require
from ..config.overrides import override
from ..config.recipe import Recipe, load_recipe, read
from ..data import Source, Split
from ..data.toy_2d import SCALE, SHAPES
from ..metrics import boundary_2d
from ..results.field import BoundaryField
from ..results.intervals import mean95
from ..runtime import provenance
from ..runtime.files import write
from ..threats import Linf
from ..training import Trainer
from .rehearsal import new_file

SD = 1 / SCALE  # one standard deviation of the data, in input units
EPOCHS = 10
WINDOW = (0.5 - 3 * SD, 0.5 + 3 * SD)  # the part of the plane that a picture shows


@dataclass
class PlaneRow:
    """Results of a recipe over seeds; distances and eps in standard deviations of the data.

    Arguments:
        changes: to the recipe, as written behind its name.
        distance: mean distance of test points to the boundary, one value per seed.
        clean, robust: accuracy on the test split, one value per seed; robust: by eps, under PGD.
    """

    name: str
    changes: list[str]
    distance: list[float] = field(default_factory=list)
    clean: list[float] = field(default_factory=list)
    robust: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def label(self) -> str:
        """Name the recipe and its changes."""
        return " ".join([self.name, *self.changes])


@dataclass
class PlaneTable:
    """Results of `plane`, with the settings that reproduce them."""

    data: str
    points: int
    steps: int
    attack: str
    seeds: list[int]
    rows: list[PlaneRow]
    versions: dict[str, str]
    commit: str
    seconds: float = 0.0

    def save(self, path: str | Path) -> Path:
        """Write the table as JSON, each row with its means and 95 % t intervals over seeds."""
        content = asdict(self)
        for row, table in zip(self.rows, content["rows"], strict=True):
            far = np.array(row.distance)
            # JSON has no infinity, the distance to the boundary of a model of one class.
            table["distance"] = [v if math.isfinite(v) else None for v in row.distance]
            table["mean"] = {
                "distance": mean95(far) if np.isfinite(far).all() else (None, None, None),
                "clean": mean95(np.array(row.clean)),
                **{e: mean95(np.array(v)) for e, v in row.robust.items()},
            }
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, json.dumps(content, indent=1).encode() + b"\n")
        return path


def plane(
    data: str,
    recipes: Sequence[str],
    *,
    seeds: int = 1,
    points: int = 100,
    steps: int = 1500,
    eps: Sequence[float] = (0.2, 0.3),
    out: str | Path | None = None,
    table: str | Path | None = None,
    grid: int = 200,
) -> PlaneTable:
    """Train recipes on points in the plane, measure the distance to their boundaries, draw them.

    Each recipe trains on the same `points` rows of a seed, for `steps` batches, within 1 %. A
    recipe for other data keeps its method, but gets an MLP and an eps of 0.3 standard deviations.

    Arguments:
        data: `"moons"`, `"circles"`, `"blobs"`, `"spirals"` or `"checkers"`.
        recipes: names or files, optionally with changes, `"plane-trades:method.beta=6"`.
        seeds: number of seeds (0, 1, …) of points, weights and draws.
        eps: radii in Linf, in standard deviations of the data.
        out: the figure of the first seed (.png, .svg or .pdf).
        table: a `.json` file for the results.
        grid: points per side, for the figure and the distances.

    Raises:
        ValueError: for a set, recipe, change or number that does not exist or is not allowed.
    """
    require(recipes, "recipes", list(recipes), "one or more")
    for key, value in (("seeds", seeds), ("points", points), ("steps", steps)):
        require(value >= 1, key, value, "an integer ≥ 1")
    require(points <= 2000, "points", points, "at most 2000")
    require(grid >= 2, "grid", grid, "an integer ≥ 2")
    for e in eps:
        require(0 <= e < math.inf, "eps", e, "a radius ≥ 0, in standard deviations")
    out = None if out is None else new_file(out, endings=(".png", ".svg", ".pdf"))
    table = None if table is None else new_file(table, "table", endings=(".json",))
    plans = [text.split(":") for text in recipes]
    for name, *changes in plans:  # all of them before the first training
        plane_recipe(data, name, changes, points=points, seed=0)
    start_time, rows, fields = time.perf_counter(), [], []
    for name, *changes in plans:
        row, row_start = PlaneRow(Path(name).stem, changes), time.perf_counter()
        for seed in range(seeds):
            trainer, source = train(
                plane_recipe(data, name, changes, points=points, seed=seed), steps
            )
            append_numbers(row, trainer.model, source, eps, grid=grid, seed=seed)
            if out is not None and seed == 0:
                fields.append(boundary_field(row, trainer, source, grid=grid))
        row.seconds = time.perf_counter() - row_start
        rows.append(row)
    result = PlaneTable(
        data,
        points,
        steps,
        "PGD-20, Linf, eps in standard deviations",
        list(range(seeds)),
        rows,
        provenance.versions(),
        provenance.commit(),
        time.perf_counter() - start_time,
    )
    if out is not None:
        from ..reporting.boundary_2d import picture

        picture(fields, SD, out)
    if table is not None:
        result.save(table)
    return result


def plane_recipe(data: str, name: str, changes: Sequence[str], *, points: int, seed: int) -> Recipe:
    """Load a recipe with the plane's data, network and radii."""
    if data not in SHAPES:
        raise ValueError(did_you_mean("data", data, SHAPES))
    tables = read(name)
    table = tables.get("data", {})
    plane_data: dict[str, Any] = {
        "name": data,
        "limit": points,
        "test": 1000,
        "val": 200,
        "seed": seed,
    }
    if table.get("name") not in SHAPES:
        tables["model"] = {"name": "mlp", "hidden": [128, 128], "mean": 0.5, "std": SD}
        _shrink(tables, 0.3 * SD)
    tables["data"] = plane_data | {k: v for k, v in table.items() if k == "mix"}
    tables.setdefault("recipe", {})["seed"] = seed
    return load_recipe(tables, set=dict(map(override, changes)))


def _shrink(tables: dict[str, Any], eps: float) -> None:
    """Scale the training ball, and the steps in it, to the plane's units."""
    old = tables.get("threat", {}).get("eps")
    if old is None:
        return
    tables["threat"]["eps"] = eps
    if "size" in tables.get("attack", {}):
        tables["attack"]["size"] *= eps / old
    tables["validation"] = {}


def train(recipe: Recipe, steps: int) -> tuple[Trainer, Source]:
    """Train for `steps` batches; return the trainer, and the source with each point once."""
    source, model, objective, settings = recipe.build()
    n = len(source.train)
    batch_size = min(settings["batch_size"], n)
    epochs, repeated = repeated_rows(n, batch_size, steps)
    settings |= {"epochs": epochs, "batch_size": batch_size, "device": "cpu", "save_every": None}
    settings |= {"validation": None, "every": epochs, "seconds": None}
    with tempfile.TemporaryDirectory() as folder:
        many = replace(source, train=source.train.take(repeated))
        trainer = Trainer(model, objective, many, out=Path(folder, "run"), **settings)
        for _ in trainer:
            pass
    return trainer, source


def repeated_rows(n: int, batch_size: int, steps: int) -> tuple[int, Tensor]:
    """Return the number of epochs, at most 10, and the rows of one, each point about as often.

    The points are repeated so that an epoch has many batches: its overhead would dominate.

    >>> epochs, rows = repeated_rows(100, 64, 1500)
    >>> epochs, len(rows)
    (10, 9600)
    """
    most = min(EPOCHS, max(1, steps * batch_size // n))
    near = (e for e in range(most, 0, -1) if abs(e * round(steps / e) - steps) <= steps / 100)
    epochs = next(near)  # one epoch always has all the steps
    rows = round(steps / epochs) * batch_size
    equal = rows // n * n  # each point as often as any other, if the last batch may be smaller
    whole, rest = divmod(equal if rows - equal < batch_size and equal else rows, n)
    some = torch.arange(rest) * n // max(1, rest)
    return epochs, torch.cat([torch.arange(n).repeat(whole), some])


def append_numbers(
    row: PlaneRow,
    model: torch.nn.Module,
    source: Source,
    eps: Sequence[float],
    *,
    grid: int,
    seed: int,
) -> None:
    """Append the numbers of one seed to a row."""
    x, y = source.test.float(), source.test.y
    row.distance.append(
        boundary_2d.distance(x, boundary_2d.boundary(model, m=grid)).mean().item() / SD
    )
    row.clean.append(_accuracy(model, x, y))
    for e in dict.fromkeys(eps):
        z = PGD(Linf(e * SD), steps=20, seed=seed)(model, x, y)
        row.robust.setdefault(f"{e:g}", []).append(_accuracy(model, z, y))


def _accuracy(model: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    return (boundary_2d.classes(model, x) == y).double().mean().item()


def boundary_field(row: PlaneRow, trainer: Trainer, source: Source, *, grid: int) -> BoundaryField:
    """Evaluate a model on a grid, with the points that its training generated from one batch."""
    batch = trainer.stepper.objective.maximize(trainer.model, next(trainer.loader.epoch(1)))
    generated, generator = batch.x[batch.y < 0], "unlabelled"
    if not len(generated) and batch.x_adv is not None and not torch.equal(batch.x_adv, batch.x):
        generated, generator = batch.x_adv, "adversarial"
    split: Split = source.train
    return boundary_2d.field_of(
        row.label,
        trainer.model,
        split.float(),
        split.y,
        generated=generated.detach(),
        generator=generator if len(generated) else "",
        low=WINDOW[0],
        high=WINDOW[1],
        m=grid,
        caption=f"{row.distance[0]:.2f} sd away, {100 * row.clean[0]:.1f} % clean",
    )
