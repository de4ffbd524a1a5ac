"""List the runs in a folder: how far each is, its best validation and its results."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ..config.toml import read_toml
from ..results import levels
from ..results.records import from_json
from ..results.result import Result
from ..results.rows import HIDDEN, Rows
from ..results.sampled import bound_text
from ..runtime.fractions import format_number
from ..runtime.lock import LOCK, is_locked
from ..runtime.text import printable
from ..training.length import is_open_ended
from ..training.run_folder import BEST, LAST, LOG, RECIPE, read_log, refuse_links

FOLDER = "runs"
MOST = 10_000  # entries of a folder that are looked at
DAMAGED, RUNNING, FINISHED = "damaged", "training now", "finished"
NAME = 60  # letters


@dataclass(frozen=True)
class RunInfo:
    """Describe a run folder in a list.

    Arguments:
        state: "training now", "finished", "interrupted", "not begun" or "damaged".
        epochs: done, of those of the recipe.
        best: accuracy on the validation split of the best weights, under the validation's attack if
            there is one, in percent; with its epoch.
        results: each evaluation, with robust accuracy at its headline radius.
        note: what is wrong with a damaged run.
    """

    run: str
    state: str
    recipe: str = ""
    epochs: str = ""
    best: str = ""
    results: str = ""
    note: str = ""
    path: Path = field(default=Path(), metadata=HIDDEN)


def runs(folder: str | Path = FOLDER) -> Rows[RunInfo]:
    """Return the runs in a folder and in its subfolders, by name; or the run that it is.

    A damaged run has a row that says so. Nothing of a run is run.

    Raises:
        FileNotFoundError: for a folder that does not exist.
        NotADirectoryError: for a file.
    """
    top = Path(folder)
    if top.exists() and not top.is_dir():
        raise NotADirectoryError(f"{printable(top)} is a file: name a folder of runs")
    if not top.is_dir():
        raise FileNotFoundError(
            f"no folder {printable(top)} here: sparring train digits-mart makes the first run"
        )
    rows = [_describe(path, top) for path in run_folders(top)]
    return Rows(rows, empty=f"no runs in {printable(top)}")


def run_folders(top: Path) -> Iterator[Path]:
    """Yield the run folders that `top` is, holds, or holds in its subfolders (those of studies)."""
    if is_run_folder(top):
        yield top
        return
    for path in _subfolders(top):
        if is_run_folder(path):
            yield path
        else:
            yield from filter(is_run_folder, _subfolders(path))


def is_run_folder(path: Path) -> bool:
    """Return whether a folder holds a file that a training writes."""
    return any(os.path.lexists(path / name) for name in (RECIPE, LOG, LAST, BEST))


def _subfolders(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        paths = (Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
        return sorted(islice(paths, MOST))
    return []


def _describe(path: Path, top: Path) -> RunInfo:
    """Return the row of a run, whatever is in its files."""
    name = printable(path.name if path == top else path.relative_to(top).as_posix(), NAME)
    try:
        refuse_links(path)
        tables = read_toml(path / RECIPE)
        log = read_log(path)
        recipe, epochs = _entry(tables, "recipe", "name"), _entry(tables, "train", "epochs")
        train = tables.get("train")
        # With an open end, the log says how many there will be.
        if isinstance(train, Mapping) and is_open_ended(train):
            epochs = log[-1].get("epochs") if log else None
        best = _best(log)
    except FileNotFoundError:
        return RunInfo(name, DAMAGED, note=f"no {RECIPE}", path=path)
    except (ValueError, OSError, TypeError, OverflowError, RecursionError) as error:
        return RunInfo(name, DAMAGED, note=printable(error), path=path)
    done = log[-1]["epoch"] if log else 0
    results, note = _results(path)
    known = isinstance(epochs, int) and epochs > 0
    return RunInfo(
        name,
        _state(path, done, epochs if known else None),
        printable(recipe or "", NAME),
        f"{done} of {epochs if known else '?'}",
        best,
        results or ("never evaluated" if (path / BEST).exists() else ""),
        note,
        path,
    )


def _state(path: Path, done: int, epochs: int | None) -> str:
    if is_locked(path / LOCK):
        return RUNNING
    if epochs is not None and done >= epochs:
        return FINISHED
    return f"interrupted at epoch {done}" if done else "interrupted before an epoch"


def _entry(tables: Mapping[str, Any], table: str, key: str) -> Any:
    inner = tables.get(table)
    return inner.get(key) if isinstance(inner, Mapping) else None


def _best(log: list[dict[str, Any]]) -> str:
    """Return the accuracy that chose the best epoch, and that epoch in brackets."""
    chosen = [row for row in log if row.get("best") is True]
    if not chosen:
        return ""
    row = chosen[-1]
    for keys, word in ((("robust", "ema_robust"), "robust"), (("clean", "ema_clean"), "clean")):
        values = [row[key] for key in keys if isinstance(row.get(key), int | float)]
        if values:
            return f"{100 * max(values):.1f} {word} ({row['epoch']})"
    return f"epoch {row['epoch']}"


def _results(path: Path) -> tuple[str, str]:
    """Return the results of a run in words, and a note on those that cannot be read."""
    texts, notes = [], []
    with contextlib.suppress(OSError):
        for file in sorted(islice((path / "results").glob("*.json"), MOST)):
            try:
                result = from_json(Result, file, noun="result", redo="Evaluate again")
                texts.append(
                    f"{printable(file.stem.removesuffix('-test'), NAME)} {_robust_text(result)}"
                )
            except (ValueError, OSError, RecursionError):
                notes.append(f"{printable(file.name, NAME)} is damaged")
    return ", ".join(texts), "; ".join(notes)


def _robust_text(result: Result) -> str:
    """Return robust accuracy at the headline radius, and that radius."""
    at = levels.headline([result])
    robust = levels.robust_at(result, at)
    if robust is None:
        return f"{100 * result.robust.accuracy:.1f}"
    radii = [format_number(level.eps) for level in at.values() if level.eps is not None]
    where = f" at {', '.join(radii)}" if radii else ""
    rows = [row for level in at.values() if (row := levels.row_at(result, level)) is not None]
    return f"{100 * robust.accuracy:.1f}{bound_text(row.sampled for row in rows)}{where}"
