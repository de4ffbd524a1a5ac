"""Put weights into a model, ours or from elsewhere, without running what their file contains."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..component import require

WRAPPERS = re.compile(r"^((module|model|_orig_mod)\.)+")
CONTAINERS = ("state_dict", "model", "net", "model_state_dict")
SPELLINGS = (  # the same parameter, as TRADES's and MART's checkpoints call it -> as we do
    (r"^(feature_extractor|classifier)\.", ""),
    (r"^(block\d)\.layer\.", r"\1."),
    (r"\.convShortcut\.", ".shortcut.0."),
)
UNUSED = re.compile(r"^sub_block1\.")  # their wide ResNets own it and never run it


class Mismatch(NamedTuple):
    """Keys that the model has and got none for, that it lacks, and whose shapes differ."""

    missing: list[str]
    unexpected: list[str]
    shapes: list[str]


def load_weights(
    model: nn.Module, source: Mapping[str, Any] | str | Path, *, strict: bool = True
) -> Mismatch:
    """Copy a state dict into `model`, all of it or, where `strict` fails, nothing.

    Keys match with or without `module.`, `model.` and `_orig_mod.` in front; the state dict may
    stand under `state_dict`, `model`, `net` or `model_state_dict`. Values take the parameter's own
    dtype and device.

    Arguments:
        source: a state dict, or a `.pt`, `.pth` or `.safetensors` file, read as tensors only.
        strict: False loads what fits and returns the rest.

    Raises:
        ValueError: if the file can't be read so; if strict, with all keys that don't match.

    >>> load_weights(nn.Linear(1, 1), {"module.weight": torch.ones(1, 1)}, strict=False).missing
    ['bias']
    """
    where = "state dict" if isinstance(source, Mapping) else str(source)
    found = _tensors(source if isinstance(source, Mapping) else _read(Path(source)), where)
    own = {WRAPPERS.sub("", key): key for key in model.state_dict()}
    given = _rename(found, own, where)
    sizes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    fits = {own[k]: v for k, v in given.items() if k in own and tuple(v.shape) == sizes[own[k]]}
    rest = Mismatch(
        missing=sorted(own.keys() - given.keys()),
        unexpected=sorted(given.keys() - own.keys()),
        shapes=[
            f"{k} {tuple(v.shape)} for {sizes[own[k]]}"
            for k, v in given.items()
            if k in own and own[k] not in fits
        ],
    )
    if strict and any(rest):
        said = "; ".join(f"{name}: {_some(keys)}" for name, keys in rest._asdict().items() if keys)
        raise ValueError(
            f"{where} does not fit the model ({said}); strict=False loads only what fits"
        )
    model.load_state_dict(fits, strict=False)
    return rest


def _read(path: Path) -> Mapping[str, Any]:
    """What a file holds, as tensors and plain containers, on the CPU."""
    require(
        path.suffix in (".pt", ".pth", ".safetensors"),
        "weights",
        str(path),
        "a .pt, .pth or .safetensors file",
    )
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of weights at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what a damaged archive raises differs with the place of the damage
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and foreign:
            raise ValueError(
                f"{path} was refused: beside tensors it holds {foreign[1]}, and loading such an "
                "object can run any code; ask for the state dict alone, or for safetensors"
            ) from error
        kind = type(error).__name__
        raise ValueError(f"{path} is damaged, or no file of weights ({kind})") from error


def _tensors(found: object, where: str) -> Mapping[str, Tensor]:
    """The state dict inside a checkpoint."""
    while isinstance(found, Mapping) and not (
        found and all(isinstance(v, Tensor) for v in found.values())
    ):
        inner = [found[key] for key in CONTAINERS if isinstance(found.get(key), Mapping)]
        if not inner:
            raise ValueError(f"{where} holds no state dict: only {_some([str(k) for k in found])}")
        found = inner[0]
    if not isinstance(found, Mapping):
        raise ValueError(f"{where} holds no state dict but a {type(found).__name__}")
    return found


def _rename(found: Mapping[str, Tensor], own: Mapping[str, str], where: str) -> dict[str, Tensor]:
    """The given tensors under the model's names, wrappers off on both sides."""
    given: dict[str, Tensor] = {}
    for key, value in found.items():
        name = WRAPPERS.sub("", key)
        if name not in own:
            other = name
            for pattern, ours in SPELLINGS:
                other = re.sub(pattern, ours, other)
            name = other if other in own else name
        if name not in own and UNUSED.match(name):
            continue
        if name in given:
            raise ValueError(f"{where} gives {name!r} twice, with and without a wrapper's prefix")
        given[name] = value
    return given


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
