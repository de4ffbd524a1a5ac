"""The page of recipe keys: every table of a recipe, read from the code that checks it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from sparring import data, models
from sparring.config import registry, tables, validation
from sparring.evaluation import EvaluationProtocol
from sparring.objective import Objective
from sparring.training import Trainer
from sparring.training.schedule import SCHEDULES

from .markdown import cell, code, literal, table
from .signatures import Argument, described

PAGE = "reference/recipe-keys.md"
HEADER = ("key", "type", "default", "meaning")
INTRO = """# Recipe keys

After this page you can write any key of a recipe, and change it by `--set key=value`.

A recipe is a TOML file of tables. A key's path is the table's name, a dot, and the key:
`[train] epochs = 3` is `--set train.epochs=3`. Numbers in lists are indices:
`--set data.augment.0.pixels=1`. A number may be a fraction, as `"8/255"`. A key whose default is
"–" is off, or follows the words beside it. A wrong key or value stops before training, with the
nearest name.

"""
ROOMS = {  # path of the table: room of the registry, and what the table is for
    "threat": (
        "threat",
        "The set that the adversary may reach; `[evaluation]` has one too.",
    ),
    "attack": ("attack", "How the adversary searches. Without this table there is no adversary."),
    "method": ("method", "The adversary's gain and the model's loss."),
    "risk": ("risk", "How losses of samples are aggregated. Default: `Mean`."),
    "weights.climb": ("climb", "Perturbed weights in every step."),
    "weights.ema": ("ema", "Averaged weights, validated beside the last ones."),
    "data.augment.0": ("augment", "Augmentations of training batches, a list, applied in turn."),
    "data.mix.0": ("mix", "Rows added to every batch, a list."),
}
MEANINGS = {  # of keys that belong to the recipe itself
    "recipe.base": "the recipe that this one changes: a shipped name, or a file beside it",
    "recipe.name": "name of the run and its folder; default: the file's name",
    "recipe.paper": "key of the paper, for `sparring cite`",
    "recipe.seed": "seed of weights, order and draws",
    "data.augment": "augmentations, see [augment](#dataaugment0)",
    "data.mix": "added rows, see [mix](#datamix0)",
    "model.pretrained": "of timm: and hf: networks: begin with the published weights",
    "model.config": "of hf: networks: the configuration; default: the hub's, which the run keeps",
    "model.shape": "shape of one input; default: the data's",
    "model.classes": "number of classes; default: the data's",
    "weights.climb": "a table, see [climb](#weightsclimb)",
    "weights.ema": "a table, see [ema](#weightsema)",
    "validation.attack": "a table as `[attack]`: selects the best epoch; default: clean accuracy",
    "validation.threat": "a table as `[threat]`; default: the training threat",
    "validation.rows": "use only the first n rows of the validation split; default: all",
    "validation.every": "validate every n epochs, and after the last",
    "evaluation.threat": "a table as `[threat]`; default: the training threat",
    "train.start": "weights to begin from: a file or a run folder",
    "train.optimizer.groups.0.modules": 'names or patterns of modules, as `["head*"]`',
    "train.optimizer.groups.0.lr_scale": "their rate, as a multiple of the optimizer's `lr`",
    "train.schedule.0.path": "the number that the schedule sets, as `lr` or `attack.threat.eps`",
}
COMMON = {  # of arguments that many pieces have
    "low": "smallest valid input",
    "high": "largest valid input",
    "width": "channels of the first stage",
    "hidden": "widths of the hidden layers",
    "drop": "share of activations that dropout sets to 0",
    "loss": "the loss that the search climbs",
    "seed": "seed of the draws",
    "steps": "number of steps",
    "start": "first value",
    "end": "last value",
    "warmup": "length of the linear warm-up",
    "since": "where it begins: a share of the training, or epochs",
    "until": "where it ends: a share of the training, or epochs",
    "up": "where the peak is: a share of the training, or epochs",
    "at": "where it drops: shares of the training, or epochs",
    "factor": "what each drop multiplies by",
    "depth": "number of layers",
    "widen": "factor of the channels",
}


class Group(NamedTuple):
    """Keys of a table that hold for one piece, or for all: then the name is empty."""

    name: str
    text: str
    arguments: list[Argument]


def pages(root: Path) -> dict[str, str]:
    """Return the page of recipe keys by its path in the site."""
    sections = [_section(path, groups) for path, groups in keys().items()]
    return {PAGE: INTRO + "\n".join(sections)}


def keys() -> dict[str, list[Group]]:
    """Return by the path of a table the keys that it can have."""
    t = tables
    base = Argument("base", "str", "–", MEANINGS["recipe.base"])
    recipe = _own(t._recipe_keys)
    networks = _pieces(models.NETWORKS.items(), (*validation.SUPPLIED, "mean", "std"))
    unnamed = ("trust", "kw", "options")
    schedules = _pieces(SCHEDULES.items(), t.FROM_SCHEDULES)
    rooms = {
        path: _pieces(registry.pieces(room).items(), registry.SUPPLIED_TO_PIECES)
        for path, (room, _) in ROOMS.items()
    }
    return {
        "recipe": [recipe._replace(arguments=[*recipe.arguments, base])],
        "data": [_own(data.load, t._training_data_keys)],
        "data.augment.0": rooms.pop("data.augment.0"),
        "data.mix.0": rooms.pop("data.mix.0"),
        "model": [_own(models.build, t._hub_keys, t._shape_keys, without=unnamed), *networks],
        **{path: rooms.pop(path) for path in t.PIECES},
        "objective": [_own(Objective, without=t.PIECES)],
        "weights": [_own(t._weights_keys)],
        **rooms,
        "train": [_own(Trainer, t._start_keys, without=(*t.FROM_TABLES, *t.FROM_RUN))],
        "train.optimizer.groups.0": [_own(t._group_keys)],
        "train.schedule.0": [_own(t._schedule_keys), *schedules],
        "validation": [_own(t._validation_keys)],
        "evaluation": [_own(EvaluationProtocol, t._evaluation_keys)],
    }


def _own(
    make: Callable[..., Any],
    *also: Callable[..., Any],
    without: Iterable[str] = ("self",),
) -> Group:
    """Return the keys that hold for a whole table; the last of `also` wins."""
    every = validation.arguments(make, without=without)
    for more in also:
        every |= {k: v for k, v in validation.arguments(more, without=()).items() if k != "options"}
    return Group("", "", described(make, every))


def _pieces(makers: Iterable[tuple[str, Any]], without: Iterable[str]) -> list[Group]:
    return [
        Group(name, _summary(make), described(make, validation.arguments(make, without=without)))
        for name, make in makers
    ]


def _summary(make: Any) -> str:
    """Return a docstring up to its arguments, without the source, as one paragraph."""
    text = inspect.getdoc(getattr(make, "func", make)) or ""
    paragraphs = text.split("\n\n")
    kept = [p for p in paragraphs[:2] if not p.startswith(("Arguments", "Raises", "Source", ">>>"))]
    return " ".join(" ".join(kept).replace("Arguments as in `Ball`.", "").split())


def _section(path: str, groups: list[Group]) -> str:
    about = ROOMS[path][1] if path in ROOMS else ""
    lines = [f"## `[{path}]`" if "." not in path else f"## `{path}`", about]
    for group in groups:
        if group.name:
            lines += [f"### {group.name}", literal(group.text).replace("<", "&lt;")]
        if group.arguments:
            lines.append(table(HEADER, (_row(path, argument) for argument in group.arguments)))
    return "\n\n".join(line for line in lines if line)


def _row(path: str, argument: Argument) -> list[str]:
    key = f"{path}.{argument.name}"
    meaning = argument.meaning or MEANINGS.get(key) or COMMON.get(argument.name, "as above")
    default = argument.default
    return [
        code(key),
        code(argument.type),
        default if default in ("required", "–") else code(default),
        literal(cell(meaning)),
    ]
