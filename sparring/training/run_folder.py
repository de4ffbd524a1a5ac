"""Read and write a run folder: recipe, log, checkpoints. A run is overwritten only by resuming."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from ..runtime import files

RECIPE, LOG, LAST, BEST = "recipe.toml", "log.jsonl", "last.pt", "best.safetensors"
MACHINE = "machine.json"  # device, versions and commit of the training


class RunExistsError(FileExistsError, ValueError):
    """Report that a folder holds a run already."""


def require_empty(folder: Path) -> None:
    """Raise `RunExistsError` if `folder` holds a run or is a file."""
    if folder.exists() and not folder.is_dir():
        raise RunExistsError(f"out = {str(folder)!r} is a file: a run needs a folder")
    if any((folder / name).exists() for name in (RECIPE, LOG, LAST, BEST)):
        raise RunExistsError(
            f"{folder} holds a run: continue it with resume (--resume), "
            "or choose another folder (--out)"
        )


def create_run(folder: Path, recipe: Mapping[str, Any] | None) -> None:
    """Create an empty run: the folder, its recipe, no log."""
    folder.mkdir(parents=True, exist_ok=True)
    files.remove_temporary(folder)
    # Without a checkpoint an earlier session got nowhere: its log and weights are not of this run.
    (folder / LOG).unlink(missing_ok=True)
    (folder / BEST).unlink(missing_ok=True)
    if recipe is not None:
        files.write(folder / RECIPE, tomli_w.dumps(recipe).encode())


def append_log(folder: Path, row: Mapping[str, Any]) -> None:
    """Append one line to the log, and wait until it is on the disk."""
    try:
        with (folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        reason = f"could not write {folder / LOG}: {error.strerror}; the last checkpoint stays"
        raise OSError(error.errno, reason) from error


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log, without a last line that a kill has cut short."""
    path, rows = Path(folder) / LOG, []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    with contextlib.suppress(json.JSONDecodeError):
        for line in text.splitlines():
            rows.append(json.loads(line))
    return rows


def truncate_log(folder: Path, epoch: int) -> None:
    """Remove the log's lines after `epoch`: those epochs are trained again."""
    rows = [row for row in read_log(folder) if row["epoch"] <= epoch]
    files.write(folder / LOG, "".join(json.dumps(row) + "\n" for row in rows).encode())


def written_by(folder: Path) -> str:
    """Return which version wrote a run, as "sparring 0.1.0", or "another version of sparring"."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        versions = json.loads((folder / MACHINE).read_text(encoding="utf-8"))["versions"]
        return f"sparring {versions['sparring']}"
    return "another version of sparring"
