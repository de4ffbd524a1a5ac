"""Read a recipe from TOML, check and complete it, and build what it names."""

from __future__ import annotations

import copy
import functools
import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w
import torch
from torch import nn

from .. import data, models
from ..component import did_you_mean, require
from ..data.source import check_options
from ..models import hubs
from ..objective import Objective
from ..runtime.first_edition import upgrade
from ..runtime.fractions import exact_number
from ..runtime.importing import import_object
from ..runtime.text import printable
from ..runtime.warning import SparringWarning
from ..training.optimizer import make_optimizer, read_optimizer
from ..training.ranges import check_numbers
from ..training.run_folder import RECIPE
from ..training.schedule import bind_schedules
from .overrides import Overrides, innermost, overlaid, override, set_value
from .registry import make, maker
from .shipped import SHIPPED, names
from .tables import resolve
from .toml import read_toml
from .validation import Table, arguments, located, plain

BASES = 20  # recipes, each based on the next


class BuiltRecipe(NamedTuple):
    """Hold what a recipe builds: source, model, objective, and keyword arguments for `Trainer`."""

    source: data.Source
    model: nn.Module
    objective: Objective
    trainer: Table


@dataclass(frozen=True)
class Recipe:
    """Hold a checked recipe: which pieces, with which numbers.

    Arguments:
        tables: the resolved form, plain values with every default filled in; `load_recipe(tables)`
            equals it.
        trust: allow pieces from outside, named "module:Class".
    """

    tables: dict[str, Table]
    trust: bool = field(default=False, compare=False)

    def __repr__(self) -> str:
        """Return the pieces in one line; `toml` has every number."""
        at = self.tables.get("threat") or {}
        threat = " ".join(
            exact_number(v) if isinstance(v, float) else str(v)
            for v in (at.get("name"), at.get("eps"))
            if v is not None
        )
        parts = [self.tables.get(k, {}).get("name") for k in ("method", "data", "model")]
        named = [str(part) for part in (parts[0], threat, *parts[1:]) if part]
        return printable(f"Recipe({self.name!r}: {', '.join(named)})")

    @property
    def name(self) -> str:
        """Name the run, its folder and its results."""
        return self.tables["recipe"]["name"]

    @property
    def seed(self) -> int:
        """Seed of the initial weights, the order of samples, and every draw of the training."""
        return self.tables["recipe"]["seed"]

    def toml(self) -> str:
        """Write the resolved form as TOML."""
        return tomli_w.dumps(self.tables)

    def source(self) -> data.Source:
        """Read the data."""
        return data.load(
            **{k: v for k, v in self.tables["data"].items() if k not in ("augment", "mix")}
        )

    def network(self, *, pretrained: bool = True) -> nn.Module:
        """Build the model with initial weights from the seed; restore the global random state.

        Arguments:
            pretrained: load the weights that a hub publishes, if the recipe asks for them.
        """
        table: dict[str, Any] = self.tables["model"]
        if not pretrained and hubs.is_hub_name(table["name"]):
            table = table | {"fetch": False}
        with torch.random.fork_rng(devices=[]), located("model"):
            torch.manual_seed(self.seed)
            return models.build(**table, trust=self.trust)

    def with_data(self, source: data.Source, table: str = "") -> Recipe:
        """Fill `model.shape`, `model.classes` and, if the recipe leaves them out, `threat.mutable`
        and `threat.groups` from the data, and what a hub knows of its network, so that a run loads
        without them.

        Arguments:
            table: the one whose threat must fit the data: `"evaluation"`; default: the threats of
                training and validation.

        Raises:
            ValueError: if model or threat do not fit the data.
        """
        model = self.tables["model"]
        of_data = {"shape": list(source.shape), "classes": source.classes}
        for key, fact in of_data.items():
            value = model.get(key, fact)
            require(value == fact, f"model.{key}", value, f"{fact} for {source.name}")
        for section in [table] if table else ["", "validation"]:
            holder = self.tables[section] if section else self.tables
            path = f"{section}.threat" if section else "threat"
            _require_bounds(*innermost(holder.get("threat", {}), path), source)
        model = model | of_data
        if hubs.is_hub_name(model["name"]):
            with located("model"):
                model |= plain(hubs.hub_facts(model["name"], model), "model")
        tables = copy.deepcopy({**self.tables, "model": model})
        facts = {"mutable": source.mutable, "groups": source.groups}
        for key, fact in ((key, fact) for key, fact in facts.items() if fact is not None):
            for holder in (tables, tables["validation"], tables["evaluation"]):
                inner, _ = innermost(holder.get("threat", {}))
                if inner and key in arguments(maker("threat", inner["name"], "", trust=self.trust)):
                    inner.setdefault(key, copy.deepcopy(fact))
        return replace(self, tables=tables)

    def objective(self) -> Objective:
        """Build the objective; without `[attack]` there is no adversary."""
        attack, method, risk = self._attack(), self._make("method"), self._make("risk")
        with located("objective"):
            return Objective(attack, method, risk, **self.tables["objective"])

    def build(self, source: data.Source | None = None) -> BuiltRecipe:
        """Build everything for `Trainer(model, objective, source, **trainer, out=…)`.

        Arguments:
            source: the recipe's data, where they are read already.
        """
        source = self.source() if source is None else source
        with_data = self.with_data(source)
        return BuiltRecipe(source, with_data.network(), with_data.objective(), with_data.trainer())

    def trainer(self) -> Table:
        """Build the keyword arguments of `Trainer` beside model, objective and source."""
        built = {room: self._make(room, "weights") for room in self.tables["weights"]}
        for room in ("augment", "mix"):
            tables = enumerate(self.tables["data"].get(room, []))
            built[room] = [make(room, t, f"data.{room}.{k}", trust=self.trust) for k, t in tables]
        built["validation"] = self._attack("validation")
        chosen = {
            key: value
            for key, value in self.tables["validation"].items()
            if key in ("rows", "every")
        }
        if loggers := self.tables["train"].get("log"):
            built["log"] = [self._logger(k, table) for k, table in enumerate(loggers)]
        return {**self.tables["train"], **chosen, **built, "seed": self.seed, "recipe": self.tables}

    def _logger(self, k: int, table: Table) -> Any:
        """Return the table of a logger of ours, or a function that makes one from outside: the
        trainer makes them, so that a recipe loads where their packages are missing."""
        if ":" not in table["name"]:
            return table
        options = {key: value for key, value in table.items() if key != "name"}
        make = import_object(table["name"], key=f"train.log.{k}.name", trust=self.trust)
        return functools.partial(make, **options)

    def threat(self, table: str = "evaluation") -> Any:
        """Build the threat of `"evaluation"` or `"validation"`, or the training `"threat"`, or
        None."""
        tables = self.tables if table == "threat" else self.tables[table]
        return (
            self._make("threat", "" if table == "threat" else table) if "threat" in tables else None
        )

    def _attack(self, table: str = "") -> Any:
        tables = self.tables[table] if table else self.tables
        return (
            self._make("attack", table, threat=self.threat(table or "threat"))
            if "attack" in tables
            else None
        )

    def _make(self, room: str, table: str = "", **supplied: Any) -> Any:
        tables, path = (self.tables[table], f"{table}.{room}") if table else (self.tables, room)
        return make(room, tables[room], path, trust=self.trust, **supplied)


def load_recipe(
    source: str | Path | Mapping[str, Any] | Recipe, *, set: Overrides = (), trust: bool = False
) -> Recipe:
    """Load, check and complete a recipe from its name, file, run folder or tables.

    Arguments:
        source: one of `names()`, a `.toml` file, a run folder, or the tables themselves; with
            `recipe.base` they hold only what differs from another recipe, shipped or a file. Or a
            `Recipe`, whose validation and evaluation keep their threats, whatever `set` changes.
        set: changes by dotted path, as `["train.epochs=3"]` (TOML or bare words), or a mapping.
        trust: allow pieces from outside, named "module:Class"; loading them runs their code.

    Raises:
        ValueError: for a wrong name, key, type or range: its path, the nearest, what is allowed.

    >>> load_recipe("digits-mart", set=["method.beta=2"]).tables["method"]
    {'name': 'MART', 'beta': 2.0, 'inner': 'ce', 'compat': False}
    """
    changes = list(set.items() if isinstance(set, Mapping) else map(override, set))
    if isinstance(source, Recipe):
        if not changes and source.trust >= trust:
            return source
        source, trust = source.tables, trust or source.trust
    if isinstance(source, Mapping):
        tables = overlaid_on_base(plain(source, ""), Path())
    else:
        tables = read(source)
    for path, value in changes:
        set_value(tables, path, value)
        tables = upgrade(tables)  # at once: the last change counts, under the old key or the new
    recipe = Recipe(resolve(tables, trust=trust), trust=trust)
    _warn_of_idle_epochs([path for path, _ in changes], recipe.tables["train"])
    # Constructors refuse numbers that are out of range.
    _check_training(recipe.objective(), recipe.trainer())
    recipe.threat()
    _check_without_data(recipe.tables)
    return recipe


def _require_bounds(threat: Table, path: str, source: data.Source) -> None:
    """Raise `ValueError` for a threat whose box is not that of the data."""
    for key, bound in zip(("low", "high"), source.bounds, strict=True):
        value = threat.get(key, bound)
        require(value == bound, f"{path}.{key}", value, f"{bound}, the bound of {source.name}")


def _warn_of_idle_epochs(changed: Sequence[str], train: Table) -> None:
    """Warn that a changed `train.epochs` does not say how long a training is that has a budget."""
    budget = next((key for key in ("seconds", "passes") if train.get(key) is not None), None)
    if budget and "train.epochs" in changed and f"train.{budget}" not in changed:
        warnings.warn(
            f"train.epochs = {train['epochs']} does not end this training: train.{budget} = "
            f"{train[budget]:g} does, so change that",
            SparringWarning,
            stacklevel=3,
        )


def _check_without_data(tables: dict[str, Table]) -> None:
    """Raise a `ValueError` for numbers that any data, and the network for them, would refuse."""
    with located("data"):
        keys = inspect.signature(check_options).parameters
        check_options(**{k: v for k, v in tables["data"].items() if k in keys})
    model = tables["model"]
    if hubs.is_hub_name(model["name"]):
        with located("model"):
            hubs.check_hub_options(**model)
    elif ":" not in model["name"]:  # the code of others runs only where it must
        with located("model"):
            models.check_options(**model)


def _check_training(objective: Objective, settings: Table) -> None:
    """Raise a `ValueError` for settings of a trainer that it would refuse when it has the data."""
    with located("train"):
        check_numbers(settings)
        # Weights in place of the network's, which has no shape yet.
        network = nn.ParameterList([torch.zeros(1, 1)])
        keywords = read_optimizer(settings["optimizer"]).keywords
        name = settings["optimizer"]["name"]
        optimizer = make_optimizer({"name": name, **keywords}, network, objective)
        weights = {k: settings.get(k) for k in ("climb", "ema")}
        bind_schedules(
            settings["schedule"],
            optimizer=optimizer,
            objective=objective,
            epochs=settings["epochs"],
            **weights,
        )


def read(source: str | Path, above: Sequence[Path] = ()) -> dict[str, Table]:
    """Read the tables of a shipped recipe, a file or a run folder; the default name is the file's.

    Arguments:
        above: the files whose base this is, to refuse a circle.
    """
    path = Path(source)
    # os.path takes a name longer than the system allows for one that does not exist.
    in_folder = os.path.isdir(path)
    path = path / RECIPE if in_folder else path
    # A run is called as its recipe: a path to its folder is not the shipped recipe's name.
    is_run = in_folder and isinstance(source, Path) and os.path.isfile(path)
    if is_shipped := not is_run and str(source) in names():
        path = SHIPPED / f"{source}.toml"
    elif not os.path.exists(path):
        if path.suffix == ".toml" or len(path.parts) > 1:
            raise FileNotFoundError(f"there is no recipe at {printable(path)}")
        raise ValueError(
            did_you_mean("recipe", str(source), names(), listed="recipes")
            + "; or give the path of a .toml file"
        )
    tables = read_toml(path)
    if in_folder and not is_shipped:
        _require_named(tables, source)
    about = tables.setdefault("recipe", {})
    if isinstance(about, dict):
        about.setdefault("name", path.stem)
    return overlaid_on_base(tables, path.parent, (*above, path.resolve()))


def _require_named(tables: Mapping[str, Any], run: str | Path) -> None:
    """Raise `ValueError` if a run from Python could not record its network or data."""
    missing = [name for name in ("model", "data") if name not in tables]
    if not missing:
        return
    words = {"model": "network", "data": "data"}
    what, shown = " and ".join(words[name] for name in missing), printable(run)
    into = f"sparring.load({shown!r}, model=network)"
    raise ValueError(
        f"{shown} was trained from Python, on {what} that no recipe can name: load its weights by "
        f"{into}, and evaluate them by sparring.evaluate({into}, data=…, eps=…)"
    )


def overlaid_on_base(
    tables: dict[str, Table], folder: Path, above: Sequence[Path] = ()
) -> dict[str, Table]:
    """Lay the tables over those that `recipe.base` names: shipped, or a file relative to `folder`.

    Raises:
        ValueError: if a recipe is based on itself.
    """
    # Before it is laid over its base: else an old key here and its new name there would both stay,
    # and an override of the one could lose to the other.
    tables = upgrade(tables)
    about = tables.get("recipe")
    if not isinstance(about, dict) or "base" not in about:
        return tables
    base, shipped = str(about.pop("base")), names()
    file = SHIPPED / f"{base}.toml" if base in shipped else folder / base
    with located("recipe.base"):
        if file.resolve() in above:
            raise ValueError(f"{printable(base)} is based on itself")
        require(len(above) < BASES, "base", base, f"the end of a chain of {BASES} recipes at most")
        if not os.path.exists(file) and file.suffix != ".toml":
            raise ValueError(did_you_mean("recipe", base, shipped, listed="recipes"))
        below = read(file, above)
        inherited = below.get("recipe")
        if isinstance(inherited, Mapping) and "seed" in inherited:
            about.setdefault("seed", inherited["seed"])  # its name is not a piece's
        return overlaid(tables, below)
