"""Load weights into a model, from this package or elsewhere, without running code in their file."""

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
SPELLINGS = (  # names in the checkpoints of TRADES and MART -> names here
    (r"^(feature_extractor|classifier)\.", ""),
    (r"^(block\d)\.layer\.", r"\1."),
    (r"\.convShortcut\.", ".shortcut.0."),
)
UNUSED = re.compile(r"^sub_block1\.")  # their wide ResNets have it and never run it


class WeightMismatch(NamedTuple):
    """Keys that the source lacks, keys that the model lacks, and keys whose shapes differ."""

    missing: list[str]
    unexpected: list[str]
    shapes: list[str]


def load_weights(
    model: nn.Module, source: Mapping[str, Any] | str | Path, *, strict: bool = True
) -> WeightMismatch:
    """Copy a state dict into `model`; return the keys that do not match.

    Keys match with or without `module.`, `model.` and `_orig_mod.` in front. They may be under
    `state_dict`, `model`, `net` or `model_state_dict`. Values take the parameter's dtype, device.

    Arguments:
        source: a state dict, or a `.pt`, `.pth` or `.safetensors` file, read as tensors only.
        strict: raise, and load nothing, unless all keys match; False loads those that do.

    Raises:
        ValueError: for a file that can't be read so; if strict, with all keys that don't match.

    >>> load_weights(nn.Linear(1, 1), {"module.weight": torch.ones(1, 1)}, strict=False).missing
    ['bias']
    """
    where = "state dict" if isinstance(source, Mapping) else str(source)
    tensors = _tensors(source if isinstance(source, Mapping) else _read(Path(source)), where)
    state = model.state_dict()
    names = {WRAPPERS.sub("", key): key for key in state}
    tensors = _model_names(tensors, names, where)
    sizes = {key: tuple(state[name].shape) for key, name in names.items()}
    common = {k: v for k, v in tensors.items() if k in names}
    wrong = {k: v for k, v in common.items() if tuple(v.shape) != sizes[k]}
    mismatch = WeightMismatch(
        missing=sorted(names.keys() - tensors.keys()),
        unexpected=sorted(tensors.keys() - names.keys()),
        shapes=[f"{k} {tuple(v.shape)} for {sizes[k]}" for k, v in wrong.items()],
    )
    if strict and any(mismatch):
        lists = mismatch._asdict().items()
        text = "; ".join(f"{name}: {_first_keys(keys)}" for name, keys in lists if keys)
        advice = "strict=False loads only what fits"
        raise ValueError(f"{where} does not fit the model ({text}); {advice}")
    matching = {names[k]: v for k, v in common.items() if k not in wrong}
    model.load_state_dict(matching, strict=False)
    return mismatch


def _read(path: Path) -> Mapping[str, Any]:
    """Read tensors and plain containers from a file, on the CPU."""
    known = path.suffix in (".pt", ".pth", ".safetensors")
    require(known, "weights", str(path), "a .pt, .pth or .safetensors file")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of weights at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # the type depends on which bytes are damaged
        name = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and name:
            raise ValueError(
                f"{path} was refused: beside tensors it holds {name[1]}, and loading such an "
                "object can run any code; ask for the state dict alone, or for safetensors"
            ) from error
        kind = type(error).__name__
        raise ValueError(f"{path} is damaged, or not a file of weights ({kind})") from error


def _tensors(content: Any, where: str) -> Mapping[str, Tensor]:
    """Return the state dict inside a checkpoint."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} holds no state dict but a {type(content).__name__}")
    while not content or not all(isinstance(v, Tensor) for v in content.values()):
        inner = [content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)]
        if not inner:
            keys = _first_keys([*map(str, content)])
            raise ValueError(f"{where} holds no state dict: only {keys}")
        content = inner[0]
    return content


def _model_names(
    tensors: Mapping[str, Tensor], names: Mapping[str, str], where: str
) -> dict[str, Tensor]:
    """Return the tensors under the model's names, without the prefixes of wrappers."""
    renamed: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = WRAPPERS.sub("", key)
        if name not in names:
            other = name
            for pattern, ours in SPELLINGS:
                other = re.sub(pattern, ours, other)
            if other not in names and UNUSED.match(name):
                continue
            name = other if other in names else name
        if name in renamed:
            raise ValueError(f"{where} gives {name!r} twice, with and without a wrapper's prefix")
        renamed[name] = value
    return renamed


def _first_keys(keys: list[str]) -> str:
    return ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
