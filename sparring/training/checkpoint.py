"""A run's files, written so that a kill at any moment leaves a run that resumes, and read so that none runs code."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

LAST, BEST, LOG, RECIPE = "last.pt", "best.safetensors", "log.jsonl", "recipe.toml"


def atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, flush it to disk, then rename it to `path`; on failure the old file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise OSError(f"could not write {path} ({error}): the last good file stays; is the disk full?") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def begin(out: Path, recipe: str, *, resume: bool) -> None:
    """Make the run folder with its resolved recipe; refuse one that exists unless `resume`; sweep temporary files.

    Raises:
        FileExistsError: if there is a run already.
        ValueError: if the run to resume has another recipe.
    """
    if (out / RECIPE).exists() or (out / LAST).exists():
        if not resume:
            raise FileExistsError(f"there is a run in {out} already: resume it, or give another folder")
        before = (out / RECIPE).read_text(encoding="utf-8") if (out / RECIPE).exists() else recipe
        if before != recipe:
            raise ValueError(f"the run in {out} was begun with another recipe ({out / RECIPE}): resume it with that one")
    for leftover in out.glob(".*.part") if out.exists() else ():
        leftover.unlink(missing_ok=True)
    if not (out / RECIPE).exists():
        atomic(out / RECIPE, lambda p: p.write_text(recipe, encoding="utf-8"))


def save_last(out: Path, state: Mapping[str, Any]) -> None:
    """Write `last.pt`: everything needed to go on."""
    atomic(out / LAST, lambda p: torch.save(dict(state), p))


def read_last(out: Path) -> dict[str, Any]:
    """Read `last.pt`; only tensors and plain values are loaded.

    Raises:
        ValueError: if it is damaged, or wants to run code.
    """
    path = out / LAST
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"{path} is damaged, or holds more than tensors and plain values, which is refused ({str(error)[:200]}). "
            f"{BEST} beside it may still serve; or begin again in another folder"
        ) from None
    if not isinstance(state, dict) or "epoch" not in state or "model" not in state:
        raise ValueError(f"{path} is no checkpoint of a training")
    return state


def save_best(out: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write `best.safetensors`: the weights to use, with a note on where they come from."""
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
    note = {k: json.dumps(v) for k, v in about.items()}
    atomic(out / BEST, lambda p: save_file(plain, p, metadata=note))


def read_weights(out: Path) -> dict[str, Tensor]:
    """The best weights of a run.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if the file is damaged.
    """
    path = out / BEST
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: the run has not finished its first epoch, or is no run folder")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error})") from None


def write_log(out: Path, rows: list[dict[str, Any]]) -> None:
    """Write `log.jsonl` whole: a line an epoch."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    atomic(out / LOG, lambda p: p.write_text(text, encoding="utf-8"))
