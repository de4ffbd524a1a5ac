"""A recipe: which pieces, with which numbers. Read from TOML, checked, completed with every default, built."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w
import torch
from torch import nn

from . import data, models
from .objective import Objective
from .part import nearest, require
from .schema import Table, arguments, check, complete, foreign, located, make, maker
from .training import Trainer

Overrides = Iterable[str] | Mapping[str, Any]
SHIPPED = Path(__file__).parent / "recipes"
DEFAULTS = {"risk": "Mean"}
PIECES = ("threat", "attack", "method", "risk")
TABLES = ("recipe", "data", "model", *PIECES, "objective", "weights", "train", "validation", "evaluation")
BUILT = ("model", "objective", "source", "out", "recipe", "climb", "ema", "validation", "resume", "seed")


class Built(NamedTuple):
    """What a recipe makes: the pieces of a training, and the other arguments of `Trainer`."""

    source: data.Source
    model: nn.Module
    objective: Objective
    trainer: Table


@dataclass(frozen=True)
class Recipe:
    """A checked recipe.

    Arguments:
        tables: its resolved form: plain values, with every default filled in; `load(tables)` gives it back.
        trust: pieces from outside, named "module:Class", may be loaded.
    """

    tables: dict[str, Table]
    trust: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        """What the run, its folder and its results are called."""
        return self.tables["recipe"]["name"]

    @property
    def seed(self) -> int:
        """Of the initial weights, the order of samples, and every draw of the training."""
        return self.tables["recipe"]["seed"]

    def toml(self) -> str:
        """The resolved form as a file."""
        return tomli_w.dumps(self.tables)

    def source(self) -> data.Source:
        """Read the data."""
        return data.load(**{key: value for key, value in self.tables["data"].items() if key != "augment"})

    def network(self) -> nn.Module:
        """The model with the seed's fresh weights; the global random state stays as it was."""
        with torch.random.fork_rng(devices=[]), located("model"):
            torch.manual_seed(self.seed)
            return models.build(**self.tables["model"], trust=self.trust)

    def fitted(self, source: data.Source) -> Recipe:
        """The recipe with the model's `shape` and `classes` from the data, so that a run can be loaded without them.

        Raises:
            ValueError: if model or threat do not fit the data.
        """
        model, found = self.tables["model"], {"shape": list(source.shape), "classes": source.classes}
        for key, value in found.items():
            require(model.get(key, value) == value, f"model.{key}", model.get(key), f"{value} for {source.name}")
        for key, bound in zip(("low", "high"), source.bounds, strict=True):
            value = self.tables.get("threat", {}).get(key, bound)
            require(value == bound, f"threat.{key}", value, f"{bound}, the bound of {source.name}")
        return replace(self, tables={**self.tables, "model": model | found})

    def objective(self) -> Objective:
        """The formula; without `[attack]` there is no adversary."""
        attack = self._attack(self.tables["attack"], self.tables["threat"], "attack") if "attack" in self.tables else None
        with located("objective"):
            natural = self.tables["objective"]["natural"]
            return Objective(attack, self._piece("method"), self._piece("risk"), natural=natural)

    def build(self) -> Built:
        """Everything a training needs: `Trainer(model, objective, source, **trainer, out=…)`."""
        source = self.source()
        fitted = self.fitted(source)
        return Built(source, fitted.network(), fitted.objective(), fitted.trainer())

    def trainer(self) -> Table:
        """The arguments of `Trainer` beside model, objective and source."""
        more = {room: make(room, t, f"weights.{room}", trust=self.trust) for room, t in self.tables["weights"].items()}
        return {**self.tables["train"], **more, "seed": self.seed, "recipe": self.tables}

    def _piece(self, room: str) -> Any:
        return make(room, self.tables[room], room, trust=self.trust)

    def _attack(self, table: Table, threat: Table, path: str) -> Any:
        where = make("threat", threat, "threat", trust=self.trust)
        return make("attack", table, path, trust=self.trust, threat=where)


def load(source: str | Path | Mapping[str, Any], *, set: Overrides = (), trust: bool = False) -> Recipe:
    """The recipe of that name, file, run folder or table, checked and complete.

    Arguments:
        source: one of `names()`, a `.toml` file, a run folder, or the tables themselves.
        set: changes by dotted path, as `["train.epochs=3"]` (values in TOML; a bare word is a string) or a mapping.
        trust: allow pieces from outside, named "module:Class"; loading them runs their code.

    Raises:
        ValueError: for a name, key, type or range that does not exist; with the path, the nearest and what there is.

    >>> load("digits-mart", set=["method.beta=2"]).tables["method"]
    {'name': 'MART', 'beta': 2.0, 'inner': 'ce', 'compat': False}
    """
    tables = copy.deepcopy(dict(source)) if isinstance(source, Mapping) else read(source)
    for path, value in set.items() if isinstance(set, Mapping) else map(override, set):
        put(tables, path, value)
    return Recipe(resolve(tables, trust=trust), trust=trust)


def names() -> list[str]:
    """The recipes inside the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def read(source: str | Path) -> dict[str, Table]:
    """The tables of a shipped recipe, a file, or a run folder; its name is the file's when it gives none."""
    path = Path(source)
    path = path / "recipe.toml" if path.is_dir() else path
    if str(source) in names():
        path = SHIPPED / f"{source}.toml"
    elif not path.is_file():
        if path.suffix == ".toml" or len(path.parts) > 1:
            raise FileNotFoundError(f"there is no recipe at {path}")
        raise ValueError(nearest("recipe", str(source), names()) + "; or give the path of a .toml file")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    about = tables.setdefault("recipe", {})
    if isinstance(about, dict):
        about.setdefault("name", path.stem)
    return tables


def override(text: str) -> tuple[str, Any]:
    """`"train.epochs=3"` as a path and a value; what is no TOML value is a string.

    >>> override("method=MART"), override("evaluation.eps=[0.1, 0.2]")
    (('method', 'MART'), ('evaluation.eps', [0.1, 0.2]))
    """
    path, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not path:
        raise ValueError(f"set = {text!r} is not allowed: it must be key=value, as train.epochs=3")
    try:
        return path, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return path, value


def put(tables: dict[str, Table], path: str, value: Any) -> None:
    """Set the value at a dotted path in place; numbers are places in a list, `attack.threat` is `[threat]`.

    >>> tables = {"data": {"augment": [{"name": "Shift"}]}}
    >>> put(tables, "data.augment.0.pixels", 1)
    >>> tables
    {'data': {'augment': [{'name': 'Shift', 'pixels': 1}]}}
    """
    keys: list[Any] = path.removeprefix("attack.").split(".") if path.startswith("attack.threat") else path.split(".")
    here: Any = tables
    for place, key in enumerate(keys):
        key = int(key) if isinstance(here, list) and key.isdecimal() else key
        if not isinstance(here, dict) and not (isinstance(here, list) and isinstance(key, int) and key < len(here)):
            raise ValueError(f"set = {path!r} is not allowed: there is nothing at {'.'.join(keys[: place + 1])}")
        if place == len(keys) - 1:
            here[key] = value
        elif isinstance(here, dict):
            below = here.setdefault(key, {})
            here[key] = here = {"name": below} if isinstance(below, str) else below
        else:
            here = here[key]


def resolve(tables: Mapping[str, Any], *, trust: bool = False) -> dict[str, Table]:
    """The tables checked, in order, with every default; what a constructor refuses is said here too."""
    for name in tables:
        if name not in TABLES:
            raise ValueError(nearest("table", name, TABLES))
    out: dict[str, Table] = {"recipe": check(_about, tables.get("recipe", {}), "recipe")}
    out["data"] = _data(tables.get("data", {}), trust)
    out["model"] = _model(tables.get("model", {}), trust)
    for room in PIECES:
        if room in tables or room in ("method", "risk"):
            out[room] = complete(room, tables.get(room, DEFAULTS.get(room, {})), room, trust=trust)
    if "attack" in out and "threat" not in out:
        raise ValueError("threat is missing: [attack] needs to know where it may go")
    out["objective"] = check(Objective, tables.get("objective", {}), "objective", without=PIECES)
    out["weights"] = check(_weights, tables.get("weights", {}), "weights")
    for room, table in out["weights"].items():
        out["weights"][room] = complete(room, table, f"weights.{room}", trust=trust)
    out["train"] = check(Trainer, tables.get("train", {}), "train", without=BUILT)
    out["validation"] = _validation(tables.get("validation", {}), out, trust)
    out["evaluation"] = _evaluation(tables.get("evaluation", {}), out, trust)
    recipe = Recipe(out, trust)
    recipe.objective()
    recipe.trainer()
    return out


def _about(*, name: str, paper: str = "", seed: int = 0) -> None:
    """The keys of `[recipe]`."""


def _weights(*, climb: Any = None, ema: Any = None) -> None:
    """The keys of `[weights]`."""


def _measured(*, suite: str = "pgd", threat: Any = None, eps: list[float] | float | None = None, n: int | None = None) -> None:
    """The keys of `[evaluation]`; `threat` and `eps` are those trained against when omitted."""


def _data(table: Any, trust: bool) -> Table:
    """`[data]`: a source by name, its arguments, and the augmentations."""
    found = check(data.load, {k: v for k, v in table.items() if k != "augment"}, "data")
    found["augment"] = []
    for place, piece in enumerate(table.get("augment", [])):
        path = f"data.augment.{place}"
        found["augment"].append(complete("augment", piece, path, trust=trust))
        make("augment", found["augment"][-1], path, trust=trust)
    return found


def _model(table: Any, trust: bool) -> Table:
    """`[model]`: a network by name, its normalisation, and its own arguments; its shapes once the data are known."""
    name = table.get("name") if isinstance(table, Mapping) else table
    if isinstance(name, str) and ":" in name:
        foreign(name, "model", trust=trust)
    elif name not in models.NETWORKS:
        raise ValueError(nearest("model.name", str(name), models.NETWORKS))
    own = models.NETWORKS.get(name, models.build)
    found = check(own, table, "model", also=(models.build, _fitted), without=("trust",))
    return {"name": found.pop("name"), **found}


def _fitted(*, shape: list[int] | None = None, classes: int | None = None) -> None:
    """The keys of `[model]` that the data decide."""


def _evaluation(table: Any, out: Mapping[str, Table], trust: bool) -> Table:
    """`[evaluation]`, its threat at the largest radius measured."""
    found = check(_measured, table, "evaluation", without=())
    if "eps" in found and not isinstance(found["eps"], list):
        found["eps"] = [found["eps"]]
    threat = found.get("threat", out.get("threat"))
    if threat is None:
        return found
    threat = {"name": threat} if isinstance(threat, str) else threat
    if "eps" in found:
        threat = {**threat, "eps": max(found["eps"], default=0.0)}
    found["threat"] = complete("threat", threat, "evaluation.threat", trust=trust)
    if "eps" in found["threat"]:
        found.setdefault("eps", [found["threat"]["eps"]])
    return found
