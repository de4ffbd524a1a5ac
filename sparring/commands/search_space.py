"""Read the space of a search: a range or choices for each path, and check both of its ends."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tomli_w
import torch

from ..component import require
from ..config.overrides import as_toml, override
from ..config.recipe import Recipe, load_recipe
from ..config.validation import Table, located
from ..runtime.fractions import parse_number

Space = Iterable[str] | Mapping[str, Any]
INTEGER = re.compile(r"[+-]?\d+")
MEASURE = ("validation", "evaluation")  # tables that must be the same for all trials
MOST_CORNERS = 64
FORMS = "1..10 (whole numbers), 0.1..1 (numbers), either with :log, or choices as MART,TRADES"


@dataclass(frozen=True)
class Dimension:
    """Describe the values of one path.

    Arguments:
        text: as it was given.
        low, high: ends of a range, integers or floats.
        log: whether it is searched by its logarithm.
        choices: texts of TOML values, or bare words, in place of a range.
    """

    path: str
    text: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[str, ...] = ()

    @property
    def ends(self) -> tuple[Any, ...]:
        """Return the values to rehearse: both ends, or every choice."""
        return self.choices or (self.low, self.high)

    def suggest(self, trial: Any) -> float | int | str:
        """Return the value that a trial of Optuna suggests."""
        if self.choices:
            return trial.suggest_categorical(self.path, self.choices)
        kind = trial.suggest_int if isinstance(self.low, int) else trial.suggest_float
        return kind(self.path, self.low, self.high, log=self.log)

    def distribution(self, distributions: Any) -> Any:
        """Return Optuna's description of the values, of its module `distributions`."""
        if self.choices:
            return distributions.CategoricalDistribution(self.choices)
        whole = isinstance(self.low, int)
        kind = distributions.IntDistribution if whole else distributions.FloatDistribution
        return kind(self.low, self.high, log=self.log)


def read_space(space: Space) -> list[Dimension]:
    """Return the dimensions of texts `PATH=VALUES`, or of a mapping, those of whole tables first.

    Raises:
        ValueError: for a text of another form, a path that is there twice, or no path at all.

    >>> read_space(["train.optimizer.lr=0.01..0.3:log"])[0].ends
    (0.01, 0.3)
    """
    if isinstance(space, Mapping):
        pairs = [(str(path), _text(values)) for path, values in space.items()]
    else:
        pairs = [tuple(part.strip() for part in text.partition("=")[::2]) for text in space]
    require(pairs, "space", None, "one path or more, as method.beta=1..10:log")
    dimensions = [_dimension(path, text) for path, text in pairs]
    paths = [d.path for d in dimensions]
    for path in paths:
        require(paths.count(path) == 1, "space", path, "a path that is there once")
    # `method=MART,TRADES` and `method.name=…` replace a table, which `method.beta` then changes
    return sorted(dimensions, key=_depth)


def _depth(dimension: Dimension) -> float:
    """Return how deep a path changes the recipe: that of a name by half a step less."""
    return dimension.path.count(".") - 0.5 * dimension.path.endswith(".name")


def _text(values: Any) -> str:
    """Return the text of a range, or of Python values as choices."""
    if isinstance(values, str):
        return values
    require(isinstance(values, Sequence), "space", values, f"{FORMS}; or a list of values")
    return ",".join(map(_choice, values))


def _choice(value: Any) -> str:
    if isinstance(value, Mapping):  # which would be a table of several lines
        return as_toml(value)
    return tomli_w.dumps({"v": value}).partition("=")[2].strip()


def _dimension(path: str, text: str) -> Dimension:
    key = f"space.{path}" if path else "space"
    require(path and text, key, text or path, f"PATH=VALUES; values are {FORMS}")
    require(path.partition(".")[0] not in MEASURE, key, text, "a path of the training: the measure "
            "of all trials must be one and the same")  # fmt: skip
    bare, _, ending = text.rpartition(":")
    log = bare != "" and ending == "log"
    body = bare if log else text
    low, dots, high = body.partition("..")
    if dots:
        return _range(key, path, text, (low.strip(), high.strip()), log=log)
    require(not log, key, text, "a range where it ends in :log, as 1..10:log")
    choices = tuple(_parts(body))
    several = len(choices) > 1 and all(choices) and len(set(choices)) == len(choices)
    require(several, key, text, f"{FORMS}: two different choices or more")
    return Dimension(path, text, choices=choices)


def _range(key: str, path: str, text: str, ends: tuple[str, str], *, log: bool) -> Dimension:
    whole = all(INTEGER.fullmatch(end) for end in ends)
    try:
        low, high = ((int if whole else parse_number)(end) for end in ends)
    except ValueError:
        raise ValueError(f"{key} = {text!r} is not allowed: {key} must be {FORMS}") from None
    require(abs(low) < 1e300 and abs(high) < 1e300, key, text, "a range of finite numbers")
    require(low < high, key, text, "a range whose low end is below its high end")
    require(not log or low > 0, key, text, "above 0 at its low end, for a logarithm")
    return Dimension(path, text, low, high, log)


def _parts(text: str) -> Iterator[str]:
    """Yield the texts between commas that stand in no brackets and no quotes."""
    depth, quote, part = 0, "", ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        depth += (letter in "[{") - (letter in "]}") if not quote else 0
        if letter == "," and not depth and not quote:
            yield part.strip()
            part = ""
        else:
            part += letter
    yield part.strip()


def with_values(base: Recipe, fidelity: Iterable[str], values: Mapping[str, Any]) -> Recipe:
    """Return a recipe with the changes of its trials alone, and then the values of one trial.

    As where one recipe lies over another, another name replaces the whole table: the arguments of
    `MART` are none of `TRADES`.
    """
    pairs: dict[str, Any] = dict(map(override, fidelity))
    for path, value in values.items():
        value = override(f"{path}={value}")[1] if isinstance(value, str) else value
        table, _, key = path.rpartition(".")
        if key == "name" and _at(base.tables, path) != value:
            path, value = table, {"name": value}
        pairs[path] = value
    return load_recipe(base.tables, set=pairs, trust=base.trust)


def _at(tables: Any, path: str) -> Any:
    """Return the value at a path of keys, None where there is none."""
    for key in path.split("."):
        tables = tables.get(key) if isinstance(tables, Mapping) else None
    return tables


def rehearse(
    base: Recipe, dimensions: Sequence[Dimension], fidelity: Sequence[str], source: Any
) -> None:
    """Raise a `ValueError` for a value of the space that no trial could train with.

    Each end and each choice is tried alone, then together, in 64 combinations at most; the
    networks are built without numbers.
    """
    for dimension in dimensions:
        others = [d.path.removesuffix(".name") for d in dimensions if d is not dimension]
        if any(dimension.path.startswith(f"{table}.") for table in others):
            continue  # it may fit one of several methods alone
        with located(f"space.{dimension.path}={dimension.text}"):
            for end in dimension.ends:
                _check(base, fidelity, {dimension.path: end}, source)
    if len(dimensions) == 1:
        return
    corners = itertools.product(*(d.ends for d in dimensions))
    for corner in itertools.islice(corners, MOST_CORNERS):
        values = dict(zip((d.path for d in dimensions), corner, strict=True))
        shown = ", ".join(f"{path} = {value}" for path, value in values.items())
        with located(f"space at {shown}"):
            _check(base, fidelity, values, source)


def _check(base: Recipe, fidelity: Sequence[str], values: Table, source: Any) -> None:
    recipe = with_values(base, fidelity, values)
    with_data = recipe.with_data(source(recipe))
    with torch.device("meta"):  # which draws no weights and takes no memory
        with_data.network()
