"""Save and load checkpoints: whole files, read without running code inside them."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from .. import __version__
from ..runtime import files
from ..runtime.allocator import out_of_memory
from ..runtime.first_edition import upgrade_settings, upgrade_state
from ..runtime.text import printable
from .run_folder import BEST, LAST, require_folder, written_by
from .settings import describe_changes, settings_hash
from .state import Position

FORMAT = 1
KINDS: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "model": dict,
    "objective": dict,
    "climb": (dict, type(None)),
    "ema": (dict, type(None)),
    "optimizer": dict,
    "position": dict,
    "settings": str,
    "hash": str,
}
KEYS = set(KINDS)
FACTORED = {"row_var", "col_var"}  # Adafactor's moments, means over the columns or the rows


class Restorable(Protocol):
    """What a checkpoint is loaded into: `Stepper`."""

    optimizer: torch.optim.Optimizer

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...

    def is_finite(self) -> bool: ...


def save_last(folder: Path, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Write everything needed to resume to `last.pt`: tensors, numbers and strings only."""
    header = {"format": FORMAT, "settings": json.dumps(settings), "hash": settings_hash(settings)}
    aside = copied_aside(state)
    files.write(folder / LAST, lambda file: torch.save({**header, **aside}, file))


def copied_aside(state: Any) -> Any:
    """Return nested dicts, lists and tuples with their tensors on the CPU, copied all at once.

    Writing a file tensor by tensor would let a GPU wait for the disk at each of them. Tensors that
    are on the CPU stay the same objects; views of one storage, as of tied weights, stay one.
    """
    copies: dict[Any, Tensor] = {}
    waits: set[torch.device] = set()

    def copied(value: Any) -> Any:
        if isinstance(value, Mapping):
            # a copy: a state dict carries its versions as an attribute, which must not get lost
            table: Any = copy.copy(value)
            table.update({key: copied(entry) for key, entry in value.items()})
            return table
        if type(value) in (list, tuple):
            return type(value)(map(copied, value))
        if not isinstance(value, Tensor) or value.device.type == "cpu":
            return value
        key = (value.data_ptr(), value.device, value.dtype, value.shape, value.stride())
        if key not in copies:
            copies[key] = value.detach().to("cpu", non_blocking=value.is_cuda)
            waits.update([value.device] if value.is_cuda else [])
        return copies[key]

    result = copied(state)
    for device in waits:
        torch.cuda.synchronize(device)
    return result


def load_last(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """Return the state in `last.pt`, or None without such a file; code inside is refused, not run.

    Raises:
        ValueError: for a file that is damaged, holds more than tensors, or has another format; and
            for links in the folder.
    """
    require_folder(folder)
    path = folder / LAST
    if not path.exists():
        return None
    with files.open_regular(path) as file, _clear_errors(path):
        # `torch.load` checks no checksums: without this, flipped bytes in a weight go unnoticed.
        with zipfile.ZipFile(file) as archive:
            # PyTorch compresses nothing; a compressed entry could unpack to any size.
            stored = all(e.compress_type == zipfile.ZIP_STORED for e in archive.infolist())
            if not stored or archive.testzip() is not None:
                raise zipfile.BadZipFile
        file.seek(0)
        state = torch.load(file, map_location=device, weights_only=True)
    if isinstance(state, dict) and state.get("format", FORMAT) != FORMAT:
        writer = written_by(folder)
        raise ValueError(
            f"{path} has checkpoint format {printable(state['format'], 40)}, written by {writer}; "
            f"sparring {__version__} reads format {FORMAT}: install {writer} to resume this run, "
            f"or train again with another out; the weights in {BEST} do not depend on it"
        )
    if not isinstance(state, dict) or not set(state) >= KEYS:
        raise ValueError(f"{path} is not a checkpoint of this version of sparring")
    for key, kind in KINDS.items():
        if not isinstance(state[key], kind):
            raise _unfit(path, f"its {key} is of type {type(state[key]).__name__}")
    return state | {"objective": upgrade_state(state["objective"])}


def restore(folder: Path, state: Mapping[str, Any], stepper: Restorable) -> Position:
    """Load a checkpoint into a training, and return where it is.

    Raises:
        ValueError: for a checkpoint that does not fit the training, or holds weights or numbers
            that are not finite.
    """
    path = folder / LAST
    try:
        stepper.load_state_dict(state)
        position = Position.from_state_dict(state["position"])
    except Exception as error:  # the pieces and PyTorch raise many kinds for foreign tables
        if out_of_memory(error):
            raise
        raise _unfit(path, str(error).strip()) from error
    if not stepper.is_finite():
        raise _unfit(path, "its weights are not finite")
    for parameter, moments in stepper.optimizer.state.items():
        for name, value in moments.items():
            # PyTorch checks the shapes of weights, not of their momentum.
            if isinstance(value, Tensor) and not _fits(name, value.shape, parameter.shape):
                raise _unfit(path, f"{name} of the optimizer has shape {tuple(value.shape)}")
    return position


def _fits(name: str, shape: torch.Size, weight: torch.Size) -> bool:
    """Return whether an entry of the optimizer's state has a shape that its weight allows."""
    if name in FACTORED and len(shape) == len(weight):
        return all(n in (1, m) for n, m in zip(shape, weight, strict=True))
    return shape in ((), weight)


def check_settings(folder: Path, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless the run was made with these settings."""
    if state["hash"] != settings_hash(settings):
        # A run of the first edition has the same settings under other keys, so another hash.
        try:
            before = upgrade_settings(json.loads(state["settings"]))
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise _unfit(folder / LAST, "its settings are no table") from error
        if "recipe.name" in settings and "recipe.name" not in before:
            raise ValueError(
                f"the run in {folder} was trained from Python: go on there, by the same call of "
                "Trainer with resume=True"
            )
        if before != settings:
            changes = describe_changes(before, settings)
            raise ValueError(
                f"the run in {folder} can't go on with other settings: {changes}. "
                "Train the run folder itself, without changes, to go on as it was"
            )


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
    except PermissionError:
        raise
    except Exception as error:  # zipfile, pickle and PyTorch raise a dozen kinds for foreign bytes
        if out_of_memory(error):
            raise
        raise _damaged(path) from error


def _damaged(path: Path) -> ValueError:
    other = f"the weights in {BEST} may be good still, " if path.name == LAST else ""
    size = path.stat().st_size
    return ValueError(f"{path} is damaged or cut short ({size} bytes): {other}or train again")


def _unfit(path: Path, reason: str) -> ValueError:
    why = printable(reason)
    return ValueError(
        f"{path} does not fit this training ({why}): the weights in {BEST} may be good still, or "
        "train again with another out"
    )


def save_best(folder: Path, weights: Mapping[str, Tensor], **about: object) -> None:
    """Write the best weights to `best.safetensors`, with `about` as its metadata strings."""
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
    metadata = {"format": "pt", **{key: str(value) for key, value in about.items()}}
    content = to_bytes(tensors, metadata=metadata)
    files.write(folder / BEST, lambda file: _write_sorted(content, file))


def _write_sorted(content: bytes, file: IO[bytes]) -> None:
    """Write safetensors with sorted metadata, so that equal runs give equal files: the library
    writes them in the random order of a hash table."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    file.write(memoryview(content)[start:])


def read_weights(run: str | Path) -> dict[str, Tensor]:
    """Return the best weights of a run folder (or of such a file), on the CPU; runs no code.

    Raises:
        FileNotFoundError: if the folder has no such file, or the path does not exist.
        ValueError: for a damaged file, or a link in the folder.
    """
    path = Path(run) / BEST if Path(run).is_dir() else Path(run)
    if path != Path(run):
        files.refuse_link(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: a run writes it after its first epoch")
    with _clear_errors(path), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def are_at_chance(weights: Path) -> bool:
    """Return whether a run's best weights predicted no better than chance when they were saved."""
    with _clear_errors(weights), safe_open(weights, framework="pt") as file:
        return (file.metadata() or {}).get("at_chance") == "True"
