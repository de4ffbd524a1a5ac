"""Select the samples to evaluate on, with the bounds and names of their data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, Dataset

from ..component import did_you_mean, require
from . import Source, Split
from .split import fingerprint
from .stream import Stream
from .torch_rows import read_torch, split_of

SPLITS = ("test", "val", "train")
SampleData = Source | Split | Dataset[Any] | DataLoader[Any] | Sequence[Any]


@dataclass(frozen=True)
class Samples:
    """Rows to evaluate on, and facts of their data set; None where a fact is unknown.

    Arguments:
        notes: the data set's remarks on itself, and one if the rows are the first ones.
    """

    rows: Split
    dataset: str
    bounds: tuple[float, float] | None
    class_names: list[str] | None
    sha256: str
    notes: tuple[str, ...] = ()


def select_samples(
    data: SampleData,
    split: str,
    *,
    n: int | None,
    seed: int,
    dataset: str,
    first: bool = False,
) -> Samples:
    """Return samples of a source's split, of a split, of tensors `(x, y)`, or of a PyTorch data
    set or loader.

    Arguments:
        split: which one of a source.
        n: this many rows, drawn by the seed; None is all.
        first: take the first n rows in the data's order instead; the notes then say so.

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
        digest, facts = "", (dataset, None, None)
        if isinstance(data, Dataset | DataLoader):
            # n are taken while they are read: such data may be larger than memory
            rows = read_torch(data, n=n, seed=seed, first=first)
        else:
            rows = _split(data)
    total, notes = len(rows), tuple(data.notes) if isinstance(data, Source) else ()
    if isinstance(data, Dataset | DataLoader) and n is not None and first:
        notes = (f"the first {total:,} samples of the data, not drawn by the seed",)
    if isinstance(rows, Stream):
        allowed = f"given: {split} is streamed, and n of its {total:,} rows are read into memory"
        require(n is not None, "n", n, allowed)
    elif total == 0 or total != len(rows.y):
        counts = f"{total} samples and {len(rows.y)} labels"
        raise ValueError(f"the {split} split has {counts}: it needs ≥ 1 sample, one label each")
    else:
        digest = digest or fingerprint(rows.x, rows.y)
    if n is not None and n < total and first:
        notes += (f"the first {n:,} of {total:,} samples of {split}, not drawn by the seed",)
    if n is not None and (n < total or isinstance(rows, Stream)):
        rows = rows.subset(n, seed, first=first)
    assert not isinstance(rows, Stream)
    return Samples(rows, *facts, digest or fingerprint(rows.x, rows.y), notes)


def dataset_name(recipe: Mapping[str, Any] | None) -> str:
    """Return the name of a recipe's data set."""
    data = (recipe or {}).get("data")
    return str(data["name"]) if isinstance(data, Mapping) and "name" in data else "given samples"


def _split(data: Split | Sequence[Any]) -> Split:
    if isinstance(data, Split):
        return data
    if not isinstance(data, tuple | list) or len(data) != 2:
        allowed = "a Source, a Split, tensors (x, y), or a Dataset or DataLoader of them"
        raise ValueError(f"data is a {type(data).__name__}: it must be {allowed}")
    return split_of(*data)
