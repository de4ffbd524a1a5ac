"""The laboratory in the plane: short trainings whose boundaries can be looked at and measured."""

from __future__ import annotations

import json
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

SD = 1 / SCALE  # a standard deviation of the data, in input units
EPOCHS = 10
WINDOW = (0.5 - 3 * SD, 0.5 + 3 * SD)  # what a picture shows


@dataclass
class Row:
    """A recipe over seeds; distances and eps in standard deviations of the data.

    Arguments:
        changes: to the recipe, as they were written behind its name.
        distance: mean distance of test points to the boundary, a value a seed.
        clean, robust: accuracy on the test split, a value a seed; robust by eps, under PGD.
    """

    name: str
    changes: list[str]
    distance: list[float] = field(default_factory=list)
    clean: list[float] = field(default_factory=list)
    robust: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def label(self) -> str:
        """The recipe and its changes."""
        return " ".join([self.name, *self.changes])


@dataclass
class Table:
    """What `plane` measured, and how to do it again."""

    data: str
    points: int
    steps: int
    attack: str
    seeds: list[int]
    rows: list[Row]
    versions: dict[str, str]
    commit: str
    seconds: float = 0.0

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, each row with its means and 95 % t intervals over seeds."""
        held = asdict(self)
        for row, table in zip(self.rows, held["rows"], strict=True):
            table["mean"] = {
                "distance": mean95(np.array(row.distance)),
                "clean": mean95(np.array(row.clean)),
                **{e: mean95(np.array(v)) for e, v in row.robust.items()},
            }
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, json.dumps(held, indent=1).encode() + b"\n")
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
) -> Table:
    """Train recipes on points in the plane, measure how far their boundaries are, and draw them.

    Each is trained from the same points of a seed: `points` rows, over and over for `steps`
    batches. What a recipe says of data is left out, unless it is of the plane; one of other data
    has its threat's eps set to 0.3 standard deviations and its network to an MLP.

    Arguments:
        data: `"moons"`, `"circles"`, `"blobs"`, `"spirals"` or `"checkers"`.
        recipes: names or files, each perhaps with changes, `"plane-trades:method.beta=6"`.
        seeds: 0, 1, …: of points, weights and draws.
        eps: radii in Linf, in standard deviations of the data.
        out: the figure's file (.png, .svg or .pdf), of the first seed.
        table: a `.json` of what was measured.
        grid: points a side, of the figure and of the distances.

    Raises:
        ValueError: for a set, recipe, change or number that does not exist or is not allowed.
    """
    require(recipes, "recipes", list(recipes), "one or more")
    for key, value in (("seeds", seeds), ("points", points), ("steps", steps)):
        require(value >= 1, key, value, "an integer ≥ 1")
    require(points <= 2000, "points", points, "at most 2000")
    endings = (".png", ".svg", ".pdf")
    ok = out is None or Path(out).suffix in endings
    require(ok, "out", str(out), f"a file that ends in {', '.join(endings)}")
    begun, rows, fields = time.perf_counter(), [], []
    for text in recipes:
        name, *changes = text.split(":")
        row, start = Row(Path(name).stem, changes), time.perf_counter()
        for seed in range(seeds):
            trainer, source = trained(planned(data, name, changes, points=points, seed=seed), steps)
            measured(row, trainer.model, source, eps, grid=grid, seed=seed)
            if out is not None and seed == 0:
                fields.append(drawn(row, trainer, source, grid=grid))
        row.seconds = time.perf_counter() - start
        rows.append(row)
    found = Table(
        data,
        points,
        steps,
        "PGD-20, Linf, eps in standard deviations",
        list(range(seeds)),
        rows,
        provenance.versions(),
        provenance.commit(),
        time.perf_counter() - begun,
    )
    if out is not None:
        from ..reporting.boundary_2d import picture

        picture(fields, SD, out)
    if table is not None:
        found.save(table)
    return found


def planned(data: str, name: str, changes: Sequence[str], *, points: int, seed: int) -> Recipe:
    """A recipe moved to the plane."""
    if data not in SHAPES:
        raise ValueError(did_you_mean("data", data, SHAPES))
    tables = read(name)
    own = tables.get("data", {})
    given: dict[str, Any] = {"name": data, "limit": points, "test": 1000, "val": 200, "seed": seed}
    if own.get("name") not in SHAPES:
        tables["model"] = {"name": "mlp", "hidden": [128, 128], "mean": 0.5, "std": SD}
        _shrink(tables, 0.3 * SD)
    tables["data"] = given | {k: v for k, v in own.items() if k == "mix"}
    tables.setdefault("recipe", {})["seed"] = seed
    return load_recipe(tables, set=dict(map(override, changes)))


def _shrink(tables: dict[str, Any], eps: float) -> None:
    """The ball trained against, and the steps in it, in the plane's units."""
    old = tables.get("threat", {}).get("eps")
    if old is None:
        return
    tables["threat"]["eps"] = eps
    if "size" in tables.get("attack", {}):
        tables["attack"]["size"] *= eps / old
    tables["validation"] = {}


def trained(plan: Recipe, steps: int) -> tuple[Trainer, Source]:
    """The trainer after its last of `steps` batches, and the source with each point once."""
    source, model, objective, more = plan.build()
    n = len(source.train)
    batch = min(more["batch"], n)
    passes = max(1, round(steps * batch / EPOCHS / n))
    again = torch.arange(n).repeat(passes)
    more |= {"epochs": EPOCHS, "batch": batch, "device": "cpu", "save_every": None}
    more |= {"validation": None, "every": EPOCHS}
    with tempfile.TemporaryDirectory() as folder:
        many = replace(source, train=source.train.take(again))
        trainer = Trainer(model, objective, many, out=Path(folder, "run"), **more)
        for _ in trainer:
            pass
    return trainer, source


def measured(
    row: Row, model: torch.nn.Module, source: Source, eps: Sequence[float], *, grid: int, seed: int
) -> None:
    """Add a seed's numbers to a row."""
    x, y = source.test.float(), source.test.y
    row.distance.append(
        boundary_2d.distance(x, boundary_2d.boundary(model, m=grid)).mean().item() / SD
    )
    row.clean.append(_right(model, x, y))
    for e in eps:
        z = PGD(Linf(e * SD), steps=20, seed=seed)(model, x, y)
        row.robust.setdefault(f"{e:g}", []).append(_right(model, z, y))


def _right(model: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    return (boundary_2d.classes(model, x) == y).double().mean().item()


def drawn(row: Row, trainer: Trainer, source: Source, *, grid: int) -> BoundaryField:
    """The picture of a model, with what its training made of one batch."""
    batch = trainer.stepper.objective.maximize(trainer.model, next(trainer.loader.epoch(1)))
    made, what = batch.x[batch.y < 0], "unlabelled"
    if not len(made) and batch.x_adv is not None and not torch.equal(batch.x_adv, batch.x):
        made, what = batch.x_adv, "adversarial"
    train: Split = source.train
    return boundary_2d.field_of(
        row.label,
        trainer.model,
        train.float(),
        train.y,
        generated=made.detach(),
        generator=what if len(made) else "",
        low=WINDOW[0],
        high=WINDOW[1],
        m=grid,
        caption=f"{row.distance[0]:.2f} sd away, {100 * row.clean[0]:.1f} % clean",
    )
