"""Select the samples to evaluate on, with the bounds and names of their data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..component import did_you_mean, require
from . import Source, Split
from .split import fingerprint

SPLITS = ("test", "val", "train")


@dataclass(frozen=True)
class Samples:
    """Rows to evaluate on, and facts of their data set; None where a fact is unknown."""

    rows: Split
    dataset: str
    bounds: tuple[float, float] | None
    class_names: list[str] | None
    sha256: str


def select_samples(
    data: Source | Split | Sequence[Any], split: str, *, n: int | None, seed: int, dataset: str
) -> Samples:
    """Return samples of a source's split, of a split, or of tensors `(x, y)`.

    Arguments:
        split: which one of a source.
        n: this many rows, drawn by the seed; None is all.

    Raises:
        ValueError: for a split that does not exist or is empty, or n < 1.
    """
    if split not in SPLITS:
        raise ValueError(did_you_mean("split", split, SPLITS))
    require(n is None or n >= 1, "n", n, "an integer ≥ 1, or None for the whole split")
    if isinstance(data, Source):
        rows, digest = getattr(data, split), data.sha256
        facts = (data.name, data.bounds, data.class_names)
    else:
        rows, digest, facts = _split(data), "", (dataset, None, None)
    if len(rows) == 0 or len(rows) != len(rows.y):
        counts = f"{len(rows)} samples and {len(rows.y)} labels"
        raise ValueError(f"the {split} split has {counts}: it needs ≥ 1 sample, one label each")
    digest = digest or fingerprint(rows.x, rows.y)
    rows = rows.subset(n, seed) if n is not None and n < len(rows) else rows
    return Samples(rows, *facts, digest)


def dataset_name(recipe: Mapping[str, Any] | None) -> str:
    """Return the name of a recipe's data set."""
    data = (recipe or {}).get("data")
    return str(data["name"]) if isinstance(data, Mapping) and "name" in data else "given samples"


def _split(data: Split | Sequence[Any]) -> Split:
    if isinstance(data, Split):
        return data
    if not isinstance(data, tuple | list) or len(data) != 2:
        allowed = "a Source, a Split, or tensors (x, y)"
        raise ValueError(f"data is a {type(data).__name__}: it must be {allowed}")
    x, y = (torch.as_tensor(t) for t in data)
    if y.ndim != 1 or y.is_floating_point():
        raise ValueError(f"y is {y.dtype} of shape {tuple(y.shape)}: labels must be integers (n,)")
    return Split(x.detach(), y.detach().long())
