"""Check before the work what would fail after it: files to come, and evaluations of a training."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .. import certification, data
from ..component import check_classes, did_you_mean, require
from ..config.recipe import Recipe, load_recipe
from ..config.validation import Table, located
from ..data import Source
from ..evaluation.protocol import EvaluationProtocol, resolve_protocol
from ..evaluation.radii import check_reachable, threats_at_radii
from ..evaluation.suites import find_suite
from ..runtime import files
from ..runtime.text import printable

NAME_BYTES = 255  # of one file or folder on every common system
SPLITS = ("train", "val", "test")
PAGES = (".html", ".htm")  # endings: a page must not replace what it shows


def new_file(path: str | Path, key: str = "out", *, endings: Sequence[str] = ()) -> Path:
    """Return the path of a file to write.

    Arguments:
        endings: those that it may have; default: any.

    Raises:
        ValueError: for no name, one that is too long, a folder, a link, a device or a pipe.
        NotADirectoryError: if a file stands where its folder should be.
    """
    path = _checked_path(path, key)
    require(path.name not in ("", ".."), key, str(path), "the name of a file")
    ok = not endings or path.suffix in endings
    require(ok, key, str(path), f"a file that ends in {', '.join(endings)}")
    with located(key):
        files.refuse_target(path)
    return path


def check_files(*, endings: Sequence[str] = (), **paths: str | Path | None) -> None:
    """Raise as `new_file` does for any of these files to write; None is none."""
    for key, path in paths.items():
        if path is not None:
            new_file(path, key, endings=endings)


def new_folder(path: str | Path, key: str = "out") -> Path:
    """Return the path of a folder to create or to use; it raises as `new_file` does."""
    path = _checked_path(path, key)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{key} = {printable(path)} is a file: a folder is expected")
    return path


def _checked_path(path: str | Path, key: str) -> Path:
    require(isinstance(path, str | os.PathLike), key, path, "a path")
    text = os.fspath(path)
    require(text.strip() and "\0" not in text, key, text, "a path")
    short = all(len(os.fsencode(part)) <= NAME_BYTES for part in Path(text).parts)
    require(short, key, text, f"a path whose names have at most {NAME_BYTES} bytes each")
    require(Path(text).name.isprintable(), key, text, "a path of printable letters")
    for above in Path(text).parents:
        if above.exists() and not above.is_dir():
            raise NotADirectoryError(f"{key} = {printable(text)}: {printable(above)} is a file")
    return Path(text)


def check_evaluation(recipe: Recipe, table: Mapping[str, Any], source: Source) -> None:
    """Raise a `ValueError` if an evaluation of a run by this recipe could not begin.

    Arguments:
        table: options of `EvaluationProtocol`; default: `[evaluation]` of the recipe.
    """
    keys = {k: v for k, v in recipe.tables["evaluation"].items() if k != "threat"}
    # [] in a recipe whose threat has no radius
    default = EvaluationProtocol(**{**keys, "eps": keys.get("eps") or None})
    protocol = resolve_protocol(None, {k: v for k, v in table.items() if k != "set"}, default)
    check_samples(protocol.n, protocol.split)
    recipe = recipe.with_data(source, "evaluation")
    radii = threats_at_radii(recipe.threat() or "Linf", protocol.eps, source.bounds)
    check_reachable(radii, source.shape)
    suite = find_suite(protocol.suite)
    for _, threat in radii:
        suite.entries_for(threat)
        check_classes(threat, source.classes)
    names = protocol.certify
    for name in [names] if isinstance(names, str) else names or ():
        if name not in certification.METHODS:
            raise ValueError(did_you_mean("certify", name, certification.METHODS))


def check_samples(n: int | None, split: str) -> None:
    """Raise a `ValueError` for a split that does not exist, or n < 1."""
    if split not in SPLITS:
        raise ValueError(did_you_mean("split", split, SPLITS))
    require(n is None or n >= 1, "n", n, "an integer ≥ 1, or None for the whole split")


def check_metrics(table: Mapping[str, Any]) -> None:
    """Raise a `ValueError` for samples or other data of metrics that do not exist."""
    check_samples(table["n"], table["split"])
    for name in table["off"]:
        if name not in data.names() and not os.path.exists(name):
            raise ValueError(did_you_mean("off", name, data.names(), listed="data"))


def check_number(runs: Mapping[str, Table], shared: Table) -> None:
    """Raise a `ValueError` for more jobs than the study allows, before a grid is expanded."""
    count = 0
    for name, table in runs.items():
        combinations = 2 ** min(len(table["grid"]), 64)
        combinations *= math.prod(map(len, table["values"].values()))
        count += combinations * len(table.get("seeds", shared["seeds"]))
        if count > shared["jobs"]:
            raise ValueError(
                f"runs.{name}: with this run the study has {count} jobs or more, and at most "
                f"{shared['jobs']} are allowed: jobs = {count} at the top of the study allows them"
            )


def check_job(
    origin: str,
    changes: Sequence[str],
    evaluations: Mapping[str, Table],
    sources: dict[str, Source],
) -> None:
    """Raise a `ValueError` if a training, or one of its evaluations, could not begin.

    Arguments:
        origin, changes: the recipe's name or file, and the changes to it.
        sources: the data sets read so far, which this call completes.
    """

    def source_of(recipe: Recipe) -> Source:
        key = json.dumps(recipe.tables["data"], sort_keys=True)
        if key not in sources:
            sources[key] = recipe.source()
        return sources[key]

    recipe = load_recipe(origin, set=changes)
    with_data = recipe.with_data(source_of(recipe))
    with torch.device("meta"):  # which draws no weights and takes no memory
        with_data.network()
    for name, table in evaluations.items():
        with located(f"evaluations.{name}"):
            more = table.get("set", ())
            measured = load_recipe(origin, set=(*changes, *more)) if more else recipe
            check_evaluation(measured, table, source_of(measured))
