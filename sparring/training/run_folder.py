"""Read and write a run folder: recipe, log, checkpoints. A run is overwritten only by resuming."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from ..runtime import distributed, files
from ..runtime.lock import LOCK, locked
from ..runtime.text import printable

RECIPE, LOG, LAST, BEST = "recipe.toml", "log.jsonl", "last.pt", "best.safetensors"
MACHINE = "machine.json"  # device, versions and commit of the training
START = "start.json"  # the weights that the training began from
LOGGED = "logged.json"  # the run's names at MLflow and W&B
FILES = (RECIPE, LOG, LAST, BEST, MACHINE, START, LOGGED, "data.json")
FOLDERS = ("results", "metrics", "tensorboard", "wandb")
LOG_LIMIT = 1 << 28  # bytes


class RunExistsError(FileExistsError, ValueError):
    """Report that a folder holds a run already."""


def require_folder(folder: Path) -> None:
    """Raise `RunExistsError` if `folder` is a file, and `ValueError` for links inside."""
    if folder.exists() and not folder.is_dir():
        raise RunExistsError(f"out = {str(folder)!r} is a file: a run needs a folder")
    refuse_links(folder)


def refuse_links(folder: Path) -> None:
    """Raise `ValueError` for a link among the names that a run reads or writes: a stranger's run
    could lead a reader to another file, and a writer over it."""
    for name in (*FILES, *FOLDERS):
        files.refuse_link(folder / name)
    for name in FOLDERS:
        for path in (folder / name).iterdir() if (folder / name).is_dir() else ():
            files.refuse_link(path)


@contextlib.contextmanager
def locked_run(folder: Path) -> Iterator[None]:
    """Hold the lock of a run inside; under torchrun the first process holds it for all.

    Raises:
        Locked: if another process trains there.
        ValueError: if `folder` is a file, or holds links.
    """
    require_folder(folder)
    first = distributed.rank() == 0
    with locked(folder / LOCK, "training") if first else contextlib.nullcontext():
        yield


def require_empty(folder: Path) -> None:
    """Raise `RunExistsError` if `folder` holds a run or is a file."""
    require_folder(folder)
    if any((folder / name).exists() for name in (RECIPE, LOG, LAST, BEST)):
        raise RunExistsError(
            f"{folder} holds a run: continue it with resume (--resume), "
            "or choose another folder (--out)"
        )


def create_run(
    folder: Path, recipe: Mapping[str, Any] | None, start: Mapping[str, Any] | None = None
) -> None:
    """Create an empty run: the folder, its recipe, the record of its start weights, no log."""
    folder.mkdir(parents=True, exist_ok=True)
    files.remove_temporary(folder)
    # Without a checkpoint an earlier session got nowhere: its log and weights are not of this run.
    for name in (LOG, BEST, START):
        (folder / name).unlink(missing_ok=True)
    if start is not None:
        files.write(folder / START, json.dumps(start).encode())
    if recipe is not None:
        files.write(folder / RECIPE, tomli_w.dumps(recipe).encode())


def append_log(folder: Path, row: Mapping[str, Any]) -> None:
    """Append one line to the log, and wait until it is on the disk."""
    files.refuse_target(folder / LOG)
    try:
        with (folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        reason = f"could not write {folder / LOG}: {error.strerror}; the last checkpoint stays"
        raise OSError(error.errno, reason) from error


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log, up to one that a kill has cut short or that is none.

    Raises:
        ValueError: for a log that is no regular file, or has more than 256 MiB.
    """
    path, rows = Path(folder) / LOG, []
    text = files.read(path, limit=LOG_LIMIT).decode(errors="replace") if path.exists() else ""
    with contextlib.suppress(ValueError, RecursionError):
        for line in text.splitlines():
            row = json.loads(line)
            if not isinstance(row, dict) or type(row.get("epoch")) is not int:
                break
            rows.append(row)
    return rows


def truncate_log(folder: Path, epoch: int) -> None:
    """Remove the log's lines after `epoch`: those epochs are trained again."""
    rows = [row for row in read_log(folder) if row["epoch"] <= epoch]
    files.write(folder / LOG, "".join(json.dumps(row) + "\n" for row in rows).encode())


def written_by(folder: Path) -> str:
    """Return which version wrote a run, as "sparring 0.1.0", or "another version of sparring"."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        versions = json.loads(files.read(folder / MACHINE, limit=1 << 20))["versions"]
        return f"sparring {printable(versions['sparring'], 40)}"
    return "another version of sparring"
