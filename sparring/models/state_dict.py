"""Load weights into a model, from this package or elsewhere, without running code in their file."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..component import require
from ..introspect.patterns import select
from ..runtime.allocator import out_of_memory
from ..runtime.files import open_regular
from ..runtime.warning import SparringWarning
from .archive import ZIP, archive_names, printable
from .base import missing_file

WRAPPERS = re.compile(r"^((module|model|_orig_mod|net|network|state_dict|ema|ema_model)\.)+")
CONTAINERS = ("state_dict", "model", "net", "model_state_dict", "network", "weights")
AVERAGES = ("model_ema", "ema", "state_dict_ema", "ema_state_dict", "ema_model")
SUFFIXES = (".tar", ".ckpt", ".bin", ".pt", ".pth", ".safetensors")
SPELLINGS = (  # names in the checkpoints of TRADES and MART -> names here
    (r"^(feature_extractor|classifier)\.", ""),
    (r"^(block\d)\.layer\.", r"\1."),
    (r"\.convShortcut\.", ".shortcut.0."),
)
# Their wide ResNets have `sub_block1` and never run it; `n_averaged` is the counter of an average.
UNUSED = re.compile(r"^sub_block1\.|^n_averaged$")
COUNTER = "num_batches_tracked"  # old checkpoints lack it, and evaluation never reads it
EXTRA = "_extra_state"  # what a module's `get_extra_state` gave, of any type
FOREIGN = (  # how files begin that a download leaves in place of weights
    (b"", "it is empty"),
    (b"<", "it is a web page: download the file itself"),
    (b"version https://git-lfs", "it is a pointer of Git LFS: fetch the file by git lfs pull"),
)


class WeightMismatch(NamedTuple):
    """Keys that the source lacks, keys that the model lacks, and keys whose shapes or kinds of
    numbers differ."""

    missing: list[str]
    unexpected: list[str]
    shapes: list[str]


class MatchedWeights(NamedTuple):
    """Hold the tensors that fit a model, by its names, and the keys that do not match."""

    values: dict[str, Any]
    mismatch: WeightMismatch


def load_weights(
    model: nn.Module,
    source: Mapping[str, Any] | str | Path,
    *,
    strict: bool = True,
    without: Sequence[str] = (),
) -> WeightMismatch:
    """Copy a state dict into `model`; return the keys that do not match.

    Keys match as they are; those that do not, with or without prefixes of wrappers, as `module.`,
    `model.` or `_orig_mod.`. The dict may be inside others, under `state_dict`, `model`, `net`,
    `ema` and the like. Values take the parameter's dtype and device.

    Arguments:
        source: a state dict, or a file: `.safetensors`; or `.pt`, `.pth`, `.pth.tar`, `.tar`,
            `.ckpt`, `.bin` as PyTorch writes them, read as tensors only.
        strict: raise, and load nothing, unless all keys match; False loads those that do.
        without: names or patterns of modules, as `["head"]`, that keep the weights they have.

    Raises:
        ValueError: for a file that can't be read so; if strict, with all keys that don't match.

    >>> load_weights(nn.Linear(1, 1), {"module.weight": torch.ones(1, 1)}, strict=False).missing
    ['bias']
    """
    values, mismatch = match_weights(model, source, without=without)
    where = described(source)
    if strict and any(mismatch):
        advice = "strict=False loads only what fits, and without=[…] leaves modules out"
        raise ValueError(f"{where} does not fit the model ({mismatch_text(mismatch)}); {advice}")
    _warn_of_nan(values, where)
    model.load_state_dict(values, strict=False)
    return mismatch


def match_weights(
    model: nn.Module,
    source: Mapping[str, Any] | str | Path,
    *,
    without: Sequence[str] = (),
    key: str = "without",
) -> MatchedWeights:
    """Return the tensors of a state dict or file that fit `model`, which stays as it is.

    Arguments:
        source, without: as in `load_weights`.
        key: of `without`, for messages.
    """
    where = described(source)
    state = model.state_dict()
    if any(isinstance(v, Tensor) and not is_lazy(v) and v.is_inference() for v in state.values()):
        raise ValueError("the model was made inside torch.inference_mode: make it outside")
    content = source if isinstance(source, Mapping) else _read(Path(source))
    values, unexpected = _by_name(inner_state_dict(content, where), state, where)
    # of both sides: a head of another name is missing here and unexpected there
    left_out = select([*state, *unexpected], without, key=key)
    values = {k: v for k, v in values.items() if k not in left_out}
    differences = {k: _difference(v, state[k]) for k, v in values.items()}
    wrong = {k: f"{k} {text}" for k, text in differences.items() if text}
    missing = [
        k for k in state.keys() - values.keys() - left_out.keys() if k.rpartition(".")[2] != COUNTER
    ]
    other = sorted(k for k in unexpected if k not in left_out)
    mismatch = WeightMismatch(sorted(missing), other, list(wrong.values()))
    return MatchedWeights({k: v for k, v in values.items() if k not in wrong}, mismatch)


def described(source: Mapping[str, Any] | str | Path) -> str:
    """Return what weights are, for messages: their file, or "state dict"."""
    return "state dict" if isinstance(source, Mapping) else str(source)


def mismatch_text(mismatch: WeightMismatch) -> str:
    """Return the keys that do not match in words."""
    lists = mismatch._asdict().items()
    return "; ".join(f"{name}: {_first_keys(keys)}" for name, keys in lists if keys)


def _read(path: Path) -> Mapping[str, Any]:
    """Read tensors and plain containers from a file, on the CPU."""
    allowed = f"a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file"
    require(path.suffix.lower() in SUFFIXES, "weights", str(path), allowed)
    if not path.exists():
        raise missing_file(path, "weights")
    names: list[str] = []
    with open_regular(path) as file:
        head = file.read(64)
        file.seek(0)
        try:
            names = archive_names(path) if head[:4] == ZIP else []
            if head[8:9] == b"{":  # safetensors: 8 bytes of length, then JSON
                return load_file(path)
            return torch.load(file, map_location="cpu", weights_only=True)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # the type depends on which bytes are damaged
            if out_of_memory(error):
                raise
            name = re.search(r"GLOBAL (\S+)", str(error))
            if isinstance(error, pickle.UnpicklingError) and name:
                raise ValueError(
                    f"{path} was refused: beside tensors it holds {printable(name[1])}, and "
                    "loading such an object can run any code; ask for the state dict alone, or "
                    "for safetensors"
                ) from error
            kind = str(error) if isinstance(error, zipfile.BadZipFile) else type(error).__name__
            reason = _foreign(head, names) or kind
            raise ValueError(f"{path} is damaged, or not a file of weights ({reason})") from error


def _foreign(head: bytes, names: list[str]) -> str:
    """Return what else a file is, from how it begins and the names in it; "" if it is unknown."""
    inner = {name.partition("/")[2] for name in names}
    if any(name.startswith("code/") for name in inner) or "archive_format" in inner:
        return "it is a program: evaluate it as the model, without a recipe"
    if names and "data.pkl" not in inner:
        return "it is an archive of something else"
    begins = head.lstrip()
    known = (text for start, text in FOREIGN if begins.startswith(start) and (start or not begins))
    return next(known, "")


def inner_state_dict(content: Any, where: str) -> Mapping[str, Any]:
    """Return the state dict inside a checkpoint."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} holds no state dict but a {type(content).__name__}")
    dicts = list(_state_dicts(content, set()))
    if not dicts:
        raise ValueError(f"{where} holds no state dict: only {_first_keys([*map(str, content)])}")
    average = next((path for path, _ in dicts if path and path[-1] in AVERAGES), None)
    if average and average != dicts[0][0]:
        read, other = ("/".join(path) for path in (dicts[0][0], average))
        text = f"{where} holds weights under {read!r}, which are read, and an average of them under"
        warnings.warn(f"{text} {other!r}: hand over that dict to use it", SparringWarning, 3)
    return dicts[0][1]


def _state_dicts(
    content: Mapping[str, Any], seen: set[int], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield each state dict in nested containers, with its path."""
    if id(content) in seen:  # a pickle may contain itself
        return
    seen.add(id(content))
    if content and all(isinstance(v, Tensor) or _is_extra(k) for k, v in content.items()):
        yield path, content
        return
    for key in CONTAINERS + AVERAGES:
        if isinstance(inner := content.get(key), Mapping):
            yield from _state_dicts(inner, seen, (*path, key))


def _is_extra(key: object) -> bool:
    return str(key).rpartition(".")[2] == EXTRA


def _by_name(
    tensors: Mapping[str, Any], state: Iterable[str], where: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the tensors under the model's names, and the keys that it lacks."""
    names, tensors = set(state), {str(key): value for key, value in tensors.items()}
    keys = [key for key in tensors if key in names or not UNUSED.match(key)]
    matches = _by_common_prefix(keys, names)
    free: dict[str, list[str]] = {}  # names without a tensor yet, by their form without prefixes
    for name in names - set(matches.values()):
        free.setdefault(WRAPPERS.sub("", name), []).append(name)
    bare = {WRAPPERS.sub("", name) for name in matches.values()}
    unexpected = []
    for key in keys:
        if key in matches:
            continue
        name = next((n for n in _spellings(key) if n in free), WRAPPERS.sub("", key))
        if name in bare and name not in free:
            raise ValueError(f"{where} gives {name!r} twice, with and without a wrapper's prefix")
        targets = free.pop(name, [])
        if len(targets) == 1:
            matches[key] = targets[0]
        else:  # names of the model that differ by a prefix alone: none is guessed
            unexpected.append(key if targets else name)
        bare.add(name)
    return {name: tensors[key] for key, name in matches.items()}, unexpected


def _by_common_prefix(keys: list[str], names: set[str]) -> dict[str, str]:
    """Return the name of each key that matches when all keys, or all names, lose the same
    prefixes: as many matches as possible, then as few prefixes."""
    best: dict[str, str] = {}
    for removed in _common_prefixes(keys):
        for added in _common_prefixes(name for name in names if not UNUSED.match(name)):
            pairs = ((key, added + key[len(removed) :]) for key in keys)
            matches = {key: name for key, name in pairs if name in names}
            if len(matches) > len(best):
                best = matches
    return best


def _common_prefixes(keys: Iterable[str]) -> Iterator[str]:
    """Yield "", then the prefixes of wrappers that all keys share, the longest last."""
    keys, prefix = list(keys), ""
    while True:
        yield prefix
        word = keys[0][len(prefix) :].partition(".")[0] + "." if keys else ""
        if not WRAPPERS.match(word) or not all(key.startswith(prefix + word) for key in keys):
            return
        prefix += word


def _spellings(key: str) -> Iterator[str]:
    """Yield a key without wrappers' prefixes, as it is and as this package spells it."""
    name = WRAPPERS.sub("", key)
    yield name
    for pattern, ours in SPELLINGS:
        name = re.sub(pattern, ours, name)
    yield name


def _difference(value: Any, expected: Any) -> str:
    """Return how a value differs from what the model has under its name; "" if it fits."""
    if not isinstance(value, Tensor) or not isinstance(expected, Tensor):
        return ""  # extra state: its module checks it
    if is_lazy(expected):
        return ""  # a lazy module takes its shapes from the weights
    if value.shape != expected.shape:
        return f"{tuple(value.shape)} for {tuple(expected.shape)}"
    numbers = value.is_floating_point() or not expected.is_floating_point()
    real = not value.is_complex() or expected.is_complex()
    if not (numbers and real and value.layout == torch.strided) or value.is_quantized:
        return f"{value.dtype} for {expected.dtype}".replace("torch.", "")
    return ""


def _warn_of_nan(values: Mapping[str, Any], where: str) -> None:
    """Warn of values that are NaN: the model will predict nothing."""
    floats = {k: v for k, v in values.items() if isinstance(v, Tensor) and v.is_floating_point()}
    spoilt = [key for key, value in floats.items() if value.isnan().any()]
    if spoilt:
        text = f"{where} has weights that are NaN (not a number): {_first_keys(spoilt)}"
        warnings.warn(text, SparringWarning, 3)


def _first_keys(keys: list[str]) -> str:
    return ", ".join(map(printable, keys[:8])) + (
        f" and {len(keys) - 8} more" if len(keys) > 8 else ""
    )
