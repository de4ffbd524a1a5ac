"""Files that are the old ones or the new ones, whole; read without running what is inside."""

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

from ..runtime import files
from ..runtime.first_edition import upgrade_settings, upgrade_state
from .state import differences, fingerprint

LAST, BEST = "last.pt", "best.safetensors"
FORMAT = 1
KEYS = {"format", "model", "objective", "climb", "ema", "optimizer", "position", "settings", "hash"}


def save_last(folder: Path, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Everything needed to go on, as `last.pt`: tensors, numbers and strings only."""
    about = {"format": FORMAT, "settings": json.dumps(settings), "hash": fingerprint(settings)}
    files.write(folder / LAST, lambda file: torch.save({**about, **state}, file))


def load_last(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """The state in `last.pt`, or None if there is none; code inside is refused, not run.

    Raises:
        ValueError: for a file that is damaged, holds more than tensors, or is of another kind.
    """
    path = folder / LAST
    if not path.exists():
        return None
    with _told(path):
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise _damaged(path)
        state = torch.load(path, map_location=device, weights_only=True)
    if not isinstance(state, dict) or not set(state) >= KEYS or state["format"] != FORMAT:
        raise ValueError(f"{path} is no checkpoint of this trainer, or of another version of it")
    return state | {"objective": upgrade_state(state["objective"])}


def same(folder: Path, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise unless the run was made with these settings."""
    if state["hash"] != fingerprint(settings):
        then = upgrade_settings(json.loads(state["settings"]))
        if then == settings:
            return
        said = differences(then, settings)
        raise ValueError(f"the run in {folder} can't go on with other settings: {said}")


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn the many errors of a bad file into two that say what it is."""
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
    """The weights to use, as `best.safetensors`, with what is known about them as strings."""
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
    metadata = {"format": "pt", **{key: str(value) for key, value in about.items()}}
    data = to_bytes(tensors, metadata=metadata)
    files.write(folder / BEST, lambda file: file.write(data))


def read_weights(run: str | Path) -> dict[str, Tensor]:
    """The best weights of a run folder (or of such a file), on the CPU; runs no code.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: for a damaged file.
    """
    path = _best(run)
    with _told(path), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def read_metadata(run: str | Path) -> dict[str, str]:
    """What `best.safetensors` says of itself: epoch, `which` ("weights" or "ema"), accuracies."""
    path = _best(run)
    with _told(path), safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _best(run: str | Path) -> Path:
    path = Path(run) / BEST if Path(run).is_dir() else Path(run)
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights at {path}; has an epoch been finished?")
    return path
