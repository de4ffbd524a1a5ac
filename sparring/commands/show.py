"""Show a recipe before it is trained: formula, pieces, data, network, evaluation, minutes."""

from __future__ import annotations

import html
import math
import os
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import getdoc
from pathlib import Path
from typing import Any

import torch

from .. import models
from ..config.overrides import Overrides
from ..config.recipe import BuiltRecipe, Recipe, load_recipe
from ..config.registry import ROOMS, maker
from ..config.shipped import header_of, names
from ..config.validation import Maker, arguments
from ..data import Source, named
from ..results.rows import cell
from ..runtime.fractions import format_number
from ..runtime.text import printable
from ..runtime.training_progress import header
from ..training import describe, parallel
from ..training.run_folder import read_log
from ..training.schedule import SCHEDULES
from . import rehearsal, timing, train

WIDTH = 80
LABEL = 12  # letters of the first column
HOUR = 60.0  # minutes


@dataclass(frozen=True)
class RecipeSummary:
    """Hold what a recipe would do, in words and numbers; it prints as a page of a terminal.

    Arguments:
        about: the recipe's own lines: what it is, the published and our numbers; {} for a file.
        facts: method, attack, threat, network with its size, epochs and device.
        formula: lines, with this recipe's numbers in them.
        pieces: room, piece and its numbers that differ from the defaults.
        data: the data set, its size, and whether it is here.
        parameters: of the network; None where its input's shape is not known without the data.
        minutes: expected on this machine; None where no step was timed.
        command: what trains it.
    """

    name: str
    about: dict[str, str]
    facts: list[str]
    formula: list[str]
    pieces: list[tuple[str, str, str]]
    data: str
    parameters: int | None
    training: str
    evaluation: str
    minutes: float | None
    command: str

    def header(self, width: int = WIDTH) -> str:
        """Return the lines of name and facts that a training begins with, and its time."""
        return "\n".join(header(self.name, [*self.facts, *self._time()], width))

    def text(self, width: int = WIDTH) -> str:
        """Return everything in lines of at most `width` letters, where words allow."""
        blocks = [
            ("", header(self.name, self.facts, width)),
            ("", [self.about[""]] if "" in self.about else []),
            ("formula", self.formula),
            *((room, [_piece_text(piece, numbers)]) for room, piece, numbers in self.pieces),
            ("data", [self.data]),
            ("training", [", ".join([self.training, *self._time()])]),
            ("evaluation", [self.evaluation]),
            *((key, [text]) for key, text in self.about.items() if key),
            ("train it", [self.command]),
        ]
        return "\n".join(line for block in blocks for line in _block(*block, width))

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text(100))}</pre>"

    def _time(self) -> list[str]:
        return [] if self.minutes is None else [f"about {duration(self.minutes)}"]


def show(
    recipe: str | Path | Recipe,
    *,
    set: Overrides = (),
    trust: bool = False,
    device: str | None = None,
    timed: bool = True,
) -> RecipeSummary:
    """Return what a recipe would do: formula, pieces, data, network, evaluation, minutes.

    Nothing is downloaded or written.

    Arguments:
        recipe: a shipped recipe's name, a `.toml` file, a run folder, or a `Recipe`.
        set, trust: as in `config.recipe.load_recipe`.
        device: default: the recipe's.
        timed: train a few steps to tell the minutes, if the data are here.

    Raises:
        ValueError: for a recipe that does not exist or is wrong.

    >>> show("digits-mart", timed=False).parameters
    91702
    """
    loaded = load_recipe(recipe, set=set, trust=trust)
    origin = loaded.name if isinstance(recipe, Recipe) else str(recipe)
    return _summary(loaded, origin, _words(origin, set), device=device, timed=timed)


def rehearse(
    recipe: str | Path | Recipe,
    *,
    out: str | Path | None = None,
    set: Overrides = (),
    resume: bool = False,
    trust: bool = False,
    device: str | None = None,
) -> tuple[Path, RecipeSummary]:
    """Check a training and its evaluation without writing; return the run folder and a summary.

    The arguments are those of `train`. Data that are not here are not downloaded, and only what
    does not need them is checked.

    Raises:
        ValueError: as `train`, and for an evaluation that could not begin.
    """
    loaded, run = train.plan(recipe, out=out, set=set, resume=resume, trust=trust)
    origin = loaded.name if isinstance(recipe, Recipe) else str(recipe)
    done = len(read_log(run)) if resume else 0
    words = _words(origin, set)
    summary = _summary(loaded, origin, words, device=device, timed=True, done=done, checked=True)
    return run, summary


def duration(minutes: float) -> str:
    """Return minutes as a person says them.

    >>> duration(0.3), duration(12.4), duration(150)
    ('20 s', '12 min', '2.5 h')
    """
    if minutes < 1.5:
        return f"{max(1, round(60 * minutes, -1 if minutes > 0.15 else 0)):.0f} s"
    if minutes < 1.5 * HOUR:
        return f"{minutes:.0f} min"
    hours = minutes / HOUR
    if hours < 48:
        return f"{hours:.1f} h" if hours < 10 else f"{hours:.0f} h"
    return f"{hours / 24:.0f} days"


def _summary(
    recipe: Recipe,
    origin: str,
    command: Sequence[str],
    *,
    device: str | None,
    timed: bool,
    done: int = 0,
    checked: bool = False,
) -> RecipeSummary:
    where, here = _whereabouts(recipe)
    source = recipe.source() if here else None
    if source is not None and checked:
        rehearsal.check_evaluation(recipe, {}, source)
    tables, minutes = recipe.tables, None
    network = _network(recipe, source)
    objective = recipe.objective()
    settings = tables["train"]
    length = describe.length_text(settings)
    chosen = parallel.join_process_group(device or settings.get("device"))
    if source is not None and timed:
        built: BuiltRecipe = recipe.build()
        minutes = timing.training_seconds(built, device=device, done=done) / 60
    facts = describe.facts(
        objective,
        network or torch.nn.Identity(),
        tables,
        length=length,
        epochs_done=done,
        device=chosen,
    )
    optimizer = settings["optimizer"]
    return RecipeSummary(
        recipe.name,
        header_of(origin) if origin in names() else {},
        facts,
        list(_formula(recipe)),
        list(_pieces(recipe)),
        _data_text(source, tables["data"]["name"], where),
        None if network is None else sum(p.numel() for p in network.parameters()),
        f"{length} in batches of {settings['batch_size']}, "
        f"{optimizer['name']} with lr {optimizer.get('lr', 'default')}",
        _evaluation_text(tables["evaluation"]),
        minutes,
        shlex.join(command),
    )


def _words(origin: str, changes: Overrides) -> list[str]:
    """Return the words of the command that trains a recipe with these changes."""
    pairs = (
        [f"{path}={value}" for path, value in changes.items()]
        if isinstance(changes, Mapping)
        else list(changes)
    )
    return ["sparring", "train", origin, *(word for pair in pairs for word in ("--set", pair))]


def _whereabouts(recipe: Recipe) -> tuple[str, bool]:
    """Return where the data of a recipe are or come from, and whether they are here."""
    table = recipe.tables["data"]
    name = str(table["name"])
    known = named.find(name)
    if known is None:
        here = os.path.exists(Path(name).expanduser())
        return ("here" if here else f"no file or folder {printable(name)} here"), here
    origin, here = named.origin(known), named.is_here(known, table.get("root"))
    if here:
        return ("here" if origin != "built in" else "built in, no download"), True
    return f"not here: {origin}", False


def _data_text(source: Source | None, name: str, where: str) -> str:
    if source is None:
        known = named.find(name)
        about = f": {named.FACTS[known].line}" if known else ""
        return f"{printable(name)}{about} ({where})"
    counts = (("train", source.train), ("validation", source.val), ("test", source.test))
    rows = ", ".join(f"{len(split):,} {part}" for part, split in counts)
    shape = "×".join(map(str, source.shape))
    return f"{printable(source.name)}: {shape}, {source.classes} classes; {rows} ({where})"


def _network(recipe: Recipe, source: Source | None) -> torch.nn.Module | None:
    """Return the network without memory for its weights; None without the shape of its input."""
    table = dict(recipe.tables["model"])
    if source is not None:
        table |= {"shape": list(source.shape), "classes": source.classes}
    elif known := named.find(str(recipe.tables["data"]["name"])):
        facts = named.FACTS[known]
        table = {"shape": list(facts.shape), "classes": facts.classes} | table
    if "shape" not in table or "classes" not in table:
        return None
    with torch.device("meta"):
        return models.build(**table, trust=recipe.trust)


def _evaluation_text(table: Mapping[str, Any]) -> str:
    threat, eps = table.get("threat", {}), table.get("eps", [])
    radii = f" at {', '.join(map(format_number, eps))}" if eps else ""
    rows = f"{table['n']} samples" if "n" in table else "all"
    where = f" in {threat['name']}{radii}" if threat else ""
    return f"suite {table['suite']}{where}, on {rows} of {table.get('split', 'test')}"


def _formula(recipe: Recipe) -> Iterator[str]:
    """Yield the lines of the objective with this recipe's pieces and numbers."""
    tables = recipe.tables
    natural, risk = tables["objective"].get("natural", 0.0), tables["risk"]["name"]
    robust = f"{risk}_i[ ℓ_i ]"
    if natural:
        robust = f"{format_number(1 - natural)}·{robust} + {format_number(natural)}·CE(f(x), y)"
    losses = _losses(recipe)
    yield f"min_θ  {robust}{' + R' if any('R = ' in loss for loss in losses) else ''}"
    yield from losses
    if smoothing := tables["objective"].get("smoothing"):
        share = format_number(smoothing)
        yield f"CE takes labels of {format_number(1 - smoothing)}·y + {share}/k (smoothed)"
    if "attack" not in tables:
        yield "x' = x: no adversary"
        return
    threat = tables["threat"]
    radius = f" of eps {format_number(threat['eps'])}" if math.isfinite(_eps(threat)) else ""
    yield f"x' in {threat['name']}{radius} around x, searched by {tables['attack']['name']}"


def _eps(threat: Mapping[str, Any]) -> float:
    return float(threat.get("eps", math.inf))


def _losses(recipe: Recipe) -> list[str]:
    """Return the loss as the method's docstring writes it, with this recipe's numbers."""
    table = recipe.tables["method"]
    text = getdoc(maker("method", table["name"], "method", trust=recipe.trust)) or ""
    match = re.search(r"ℓ = .+?(?=\.(?:\s|$)|:\s|, where|, with the|, GR the|\Z)", text, re.DOTALL)
    if match is None:
        return []
    line = " ".join(match[0].split())
    for key, value in table.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            line = re.sub(rf"\b{re.escape(key)}\b(?=[·*])", format_number(value), line)
    return [line]


def _pieces(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Yield room, piece and the numbers that differ from the piece's defaults."""
    tables = recipe.tables
    lists = [(room, t) for room in ("augment", "mix") for t in tables["data"].get(room, ())]
    weights = list(tables["weights"].items())
    schedules = [("schedule", t) for t in tables["train"]["schedule"]]
    rooms = [
        (room, tables[room]) for room in ("threat", "attack", "method", "risk") if room in tables
    ]
    for room, table in [*rooms, *weights, *lists, *schedules]:
        yield room, table["name"], ", ".join(_numbers(recipe, room, table))
    network = models.NETWORKS.get(tables["model"]["name"])
    given = _changed(network, tables["model"]) if network else []
    yield "network", tables["model"]["name"], ", ".join(given)


def _numbers(recipe: Recipe, room: str, table: Mapping[str, Any]) -> list[str]:
    if room in ROOMS:
        return _changed(maker(room, table["name"], room, trust=recipe.trust), table)
    return [f"of {table['path']}", *_changed(SCHEDULES[table["name"]], table)]


def _changed(make: Maker, table: Mapping[str, Any]) -> list[str]:
    """Return "key value" for each argument that is not at its default; pieces inside by name."""
    known = arguments(make, without=("self", "shape", "classes"))
    return [
        f"{key} {_value(value)}"
        for key, value in table.items()
        if key in known and not _is_default(value, known[key].default)
    ]


def _is_default(value: Any, default: Any) -> bool:
    return value == (list(default) if isinstance(default, tuple) else default)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("name", "…"))
    if isinstance(value, list) and len(value) > 8:
        return f"[{len(value)} values]"
    return format_number(value) if isinstance(value, float) else cell(value)


def _piece_text(piece: str, numbers: str) -> str:
    return f"{piece}: {numbers}" if numbers else piece


def _block(label: str, lines: Sequence[str], width: int) -> Iterator[str]:
    """Yield lines behind a label, wrapped at words; those without a label begin at the margin."""
    indent = 2 + LABEL if label else 0
    for number, line in enumerate(lines):
        first = f"  {label if not number else '':<{LABEL}}" if label else ""
        for part in line.splitlines():
            yield from textwrap.wrap(
                printable(part, None),
                max(width, indent + 20),
                initial_indent=first,
                subsequent_indent=" " * indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
