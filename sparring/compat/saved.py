"""Save adversarial points of a data loader as torchattacks does, and load them again."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from ..component import require
from ..introspect import predict
from ..runtime import files
from ..runtime.output import write_line

TYPES = ("float", "int")
SIZE_LIMIT = 8 << 30  # bytes of a file that is loaded


def save(
    attack: Any,
    data_loader: Iterable[tuple[Tensor, Tensor]],
    save_path: str | Path | None = None,
    verbose: bool = True,
    return_verbose: bool = False,
    save_predictions: bool = False,
    save_clean_inputs: bool = False,
    save_type: str = "float",
) -> tuple[float, float, float] | None:
    """Attack every batch of a loader; write the points, in [0, 1], and their labels.

    Arguments:
        attack: of this package.
        save_path: of a file for `torch.load(…, weights_only=True)`; default: only count.
        verbose: print robust accuracy and mean L2 distance of the broken samples.
        return_verbose: return robust accuracy in %, that distance, and the seconds of all batches.
        save_type: `"float"`, or `"int"` for uint8.

    Differs: the file is written once, whole; uint8 is rounded to the nearest level; the seconds are
    those of all batches, not of the last.
    """
    require(save_type in TYPES, "save_type", save_type, "one of " + ", ".join(TYPES))
    started, parts = time.perf_counter(), []
    for inputs, labels in data_loader:
        x_adv = attack(inputs, labels)
        pred = predict.predict(attack.model, x_adv)
        parts.append([t.detach().cpu() for t in (x_adv, labels, pred, inputs)])
    if not parts:
        raise ValueError("data_loader has no batches")
    x_adv, labels, pred, inputs = (torch.cat(part) for part in zip(*parts, strict=True))
    if attack.normalization_used is not None:
        x_adv, inputs = (attack.inverse_normalize(points) for points in (x_adv, inputs))
    robust = pred == labels
    accuracy = 100 * robust.double().mean().item()
    distance = (x_adv - inputs).flatten(1).norm(dim=1)[~robust]
    l2, seconds = distance.mean().item(), time.perf_counter() - started
    if verbose:
        write_line(
            f"- Save progress: 100.00 % / Robust accuracy: {accuracy:.2f} % / L2: {l2:.5f} "
            f"({seconds:.3f} s)"
        )
    if save_path is not None:
        content: dict[str, Any] = {"adv_inputs": to_type(x_adv, save_type), "labels": labels}
        content |= {"preds": pred} if save_predictions else {}
        content |= {"clean_inputs": to_type(inputs, save_type)} if save_clean_inputs else {}
        file = io.BytesIO()
        torch.save(content | {"save_type": save_type}, file)
        files.write(Path(save_path), file.getvalue())
    return (accuracy, l2, seconds) if return_verbose else None


def load(
    load_path: str | Path,
    batch_size: int = 128,
    shuffle: bool = False,
    normalize: Mapping[str, Sequence[float]] | None = None,
    load_predictions: bool = False,
    load_clean_inputs: bool = False,
) -> DataLoader[tuple[Tensor, ...]]:
    """Return a loader of a saved file: points, labels, then what else is asked for.

    Arguments:
        normalize: a table of `mean` and `std`; default: points in [0, 1].

    Raises:
        ValueError: for a file without what is asked for, or of anything but tensors.
    """
    packed = files.read(Path(load_path), limit=SIZE_LIMIT)
    try:
        content = torch.load(io.BytesIO(packed), weights_only=True)
    except Exception as error:  # a foreign file: pickle, zipfile and torch raise a dozen kinds
        raise ValueError(f"{load_path} is no file of tensors: {type(error).__name__}") from None
    keys = ["adv_inputs", "labels"]
    keys += ["preds"] * load_predictions + ["clean_inputs"] * load_clean_inputs
    for key in keys:
        known = isinstance(content, dict) and isinstance(content.get(key), Tensor)
        require(known, "load_path", str(load_path), f"a file with {key}")
    tensors = {key: content[key] for key in keys}
    for key in {"adv_inputs", "clean_inputs"} & tensors.keys():
        points = to_type(tensors[key], "float")
        if normalize is not None:
            mean, std = (
                torch.as_tensor(normalize[k]).reshape(1, -1, 1, 1) for k in ("mean", "std")
            )
            points = (points - mean) / std
        tensors[key] = points
    write_line(f"Data is loaded in the following order: [{', '.join(keys)}]")
    return DataLoader(TensorDataset(*tensors.values()), batch_size=batch_size, shuffle=shuffle)


def to_type(inputs: Tensor, kind: str) -> Tensor:
    """Return points as uint8 for `"int"`, as float32 in [0, 1] for `"float"`.

    >>> to_type(torch.tensor([0.5, 1.0]), "int")
    tensor([128, 255], dtype=torch.uint8)
    """
    if kind == "int" and inputs.is_floating_point():
        return (255 * inputs).round().clamp(0, 255).to(torch.uint8)
    return inputs.float() / 255 if kind == "float" and inputs.dtype == torch.uint8 else inputs
