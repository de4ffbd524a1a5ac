"""A run is a folder: recipe, log, checkpoints. It is never overwritten unasked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from ..runtime import files
from . import checkpoint

RECIPE, LOG = "recipe.toml", "log.jsonl"
FILES = (RECIPE, LOG, checkpoint.LAST, checkpoint.BEST)


class RunExistsError(FileExistsError, ValueError):
    """There is a run in that folder already."""


def require_empty(folder: Path) -> None:
    """Raise unless no run stands in `folder`."""
    if folder.exists() and not folder.is_dir():
        raise RunExistsError(f"out = {str(folder)!r} is a file: a run needs a folder")
    if any((folder / name).exists() for name in FILES):
        raise RunExistsError(
            f"there is a run in {folder} already: go on with it by resume (--resume), "
            "or give another folder (--out)"
        )


def begin(folder: Path, recipe: Mapping[str, Any] | None) -> None:
    """An empty run: the folder, its recipe, no log."""
    folder.mkdir(parents=True, exist_ok=True)
    files.remove_temporary(folder)
    (folder / LOG).unlink(missing_ok=True)
    (folder / checkpoint.BEST).unlink(missing_ok=True)
    if recipe is not None:
        text = tomli_w.dumps(recipe).encode()
        files.write(folder / RECIPE, text)


def append(folder: Path, row: Mapping[str, Any]) -> None:
    """One line more in the log, on the disk."""
    try:
        with (folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {folder / LOG}: {error.strerror}; the last checkpoint stays",
        ) from error


def log(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's log; a last one that a kill has cut short is left out."""
    return list(_rows(Path(folder) / LOG))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return


def cut(folder: Path, epoch: int) -> None:
    """Forget what the log says after `epoch`: those epochs are done again."""
    rows = [row for row in log(folder) if row["epoch"] <= epoch]
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    files.write(folder / LOG, text)
