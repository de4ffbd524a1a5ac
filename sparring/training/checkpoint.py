"""Save and load checkpoints: whole files, read without running code inside them."""

from __future__ import annotations

import contextlib
import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from .. import __version__
from ..runtime import files
from ..runtime.first_edition import upgrade_settings, upgrade_state
from .run_folder import BEST, LAST, written_by
from .settings import describe_changes, settings_hash

FORMAT = 1
KEYS = {"format", "model", "objective", "climb", "ema", "optimizer", "position", "settings", "hash"}


def save_last(folder: Path, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Write everything needed to resume to `last.pt`: tensors, numbers and strings only."""
    header = {"format": FORMAT, "settings": json.dumps(settings), "hash": settings_hash(settings)}
    files.write(folder / LAST, lambda file: torch.save({**header, **state}, file))


def load_last(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """Return the state in `last.pt`, or None without such a file; code inside is refused, not run.

    Raises:
        ValueError: for a file that is damaged, holds more than tensors, or has another format.
    """
    path = folder / LAST
    if not path.exists():
        return None
    with _clear_errors(path):
        # `torch.load` checks no checksums: without this, flipped bytes in a weight go unnoticed.
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise _damaged(path)
        state = torch.load(path, map_location=device, weights_only=True)
    if isinstance(state, dict) and state.get("format", FORMAT) != FORMAT:
        writer = written_by(folder)
        raise ValueError(
            f"{path} has checkpoint format {state['format']}, written by {writer}; sparring "
            f"{__version__} reads format {FORMAT}: install {writer} to resume this run, or train "
            f"again with another out; the weights in {BEST} do not depend on it"
        )
    if not isinstance(state, dict) or not set(state) >= KEYS:
        raise ValueError(f"{path} is not a checkpoint of this version of sparring")
    return state | {"objective": upgrade_state(state["objective"])}


def check_settings(folder: Path, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless the run was made with these settings."""
    if state["hash"] != settings_hash(settings):
        # A run of the first edition has the same settings under other keys, so another hash.
        before = upgrade_settings(json.loads(state["settings"]))
        if before != settings:
            changes = describe_changes(before, settings)
            raise ValueError(f"the run in {folder} can't go on with other settings: {changes}")


@contextlib.contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    """Turn the many errors of a bad file into two that say what is wrong with it."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors, numbers and strings: loading it could run "
            "somebody's code, so it is refused"
        ) from error
    except (zipfile.BadZipFile, SafetensorError, RuntimeError, OSError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> ValueError:
    other = f"the weights in {BEST} may be good still, " if path.name == LAST else ""
    size = path.stat().st_size
    return ValueError(f"{path} is damaged or cut short ({size} bytes): {other}or train again")


def save_best(folder: Path, weights: Mapping[str, Tensor], **about: object) -> None:
    """Write the best weights to `best.safetensors`, with `about` as its metadata strings."""
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
    metadata = {"format": "pt", **{key: str(value) for key, value in about.items()}}
    files.write(folder / BEST, to_bytes(tensors, metadata=metadata))


def read_weights(run: str | Path) -> dict[str, Tensor]:
    """Return the best weights of a run folder (or of such a file), on the CPU; runs no code.

    Raises:
        FileNotFoundError: if the folder has no such file, or the path does not exist.
        ValueError: for a damaged file.
    """
    path = Path(run) / BEST if Path(run).is_dir() else Path(run)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: a run writes it after its first epoch")
    with _clear_errors(path), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
