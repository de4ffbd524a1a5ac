"""Divide samples into train, validation and test: held out by the seed, or by time."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from ..component import require, require_at_least
from ..runtime.warning import SparringWarning
from .content import shorten
from .layouts import RawDataset
from .split import Inputs, Split, hold_out

TEST_SHARE, VAL_SHARE, VAL_MAX = 0.15, 0.1, 5000
Rows = int | float | None  # how many, or their share
Parts = dict[str, tuple[Inputs, Tensor]]


def divide(
    name: str, parts: Parts, raw: RawDataset, *, val: Rows, test: Rows, seed: int, limit: int | None
) -> dict[str, Split]:
    """Return the three splits: those of the data as they are, missing ones held out of train: drawn
    by the seed, or the latest rows, if the data have times.

    Raises:
        ValueError: for a number of rows that train does not have.
    """
    # one generator for test, then val, then limit: this order of draws defines every named split
    generator = torch.Generator().manual_seed(int(seed))
    whole = {s: Split(x, y) for s, (x, y) in parts.items()}
    train, y = whole["train"], whole["train"].y
    if not len(train):  # a test split alone
        return {"val": train, **whole}

    def divided(rows: Tensor, n: int) -> tuple[Tensor, Tensor]:
        if raw.time is not None:
            return later(raw.time, rows, n)
        kept, out = hold_out(y[rows], n, generator)
        return rows[kept], rows[out]

    rows, num_labelled = torch.arange(len(y)), int((y >= 0).sum())
    if "test" in whole:
        require(test is None, "test", test, f"omitted: {name} brings its own test split")
    else:
        default = max(1, round((raw.shares[0] if raw.shares else TEST_SHARE) * num_labelled))
        n = row_count("test", test, num_labelled, default)
        require(n < num_labelled, "test", test, f"below the {num_labelled} labeled rows of {name}")
        rows, out = divided(rows, n)
        whole["test"] = train.take(out)
    if "val" in whole:
        require(val is None, "val", val, f"omitted: {name} brings its own validation split")
    else:
        labeled = int((y[rows] >= 0).sum())
        usual = min(VAL_MAX, max(1, int(VAL_SHARE * labeled)))
        default = round(raw.shares[1] * num_labelled) if raw.shares else usual
        n = row_count("val", val, labeled, default)
        require(n < labeled, "val", val, f"below the {labeled} labeled rows of {name}'s train")
        rows, out = divided(rows, n)
        whole["val"] = train.take(out)
    require(len(rows) > 0, "val", val, f"smaller: {name} has too few rows to leave any in train")
    if limit is not None:
        require_at_least(1, limit=limit)
        rows = rows[torch.randperm(len(rows), generator=generator)[:limit].sort().values]
    # taking all rows would copy a large set; use the tensors themselves
    whole["train"] = train.take(rows) if len(rows) < len(train) else train
    return whole


def later(time: np.ndarray, rows: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the earlier and the later of some rows, about n later ones: rows of one time stay
    together.

    Raises:
        ValueError: if all these rows have one time.

    >>> later(np.array([3.0, 1.0, 2.0, 3.0]), torch.arange(4), 1)
    (tensor([1, 2]), tensor([0, 3]))
    """
    moments = time[rows.numpy()]
    cut = np.sort(moments)[len(rows) - n]
    out = moments >= cut
    if out.all():  # the n latest would take the rest of the rows of their time with them
        out = moments > cut
    if not out.any():
        raise ValueError(f"time: all {len(rows)} rows to divide have one time: nothing is later")
    mask = torch.from_numpy(out)
    return rows[~mask], rows[mask]


def check_classes_by_time(name: str, splits: Mapping[str, Split], class_names: list[str]) -> None:
    """Raise `ValueError` if the earliest rows, those of train, lack a class."""
    counts = torch.bincount(splits["train"].y.clamp_min(0), minlength=len(class_names))
    if (counts == 0).any():
        missing = class_names[int(counts.argmin())]
        raise ValueError(
            f"{name} train, the earliest rows by time, has none of class {missing!r}: hold out "
            "fewer rows by data.test and data.val"
        )


def class_counts(name: str, labels: Mapping[str, Tensor], class_names: Sequence[str]) -> list[int]:
    """Return the rows of each class in train, or in test if there is no train.

    Raises:
        ValueError: for a single class, or one that train lacks before it is divided.
    """
    if len(class_names) < 2:
        raise ValueError(f"{name} has {len(class_names)} class; a classifier needs at least 2")
    counts = {
        s: torch.bincount(y[y >= 0], minlength=len(class_names)).tolist() for s, y in labels.items()
    }
    if "train" in counts and 0 in counts["train"]:
        k = counts["train"].index(0)
        others = [f"{s} has {c[k]}" for s, c in counts.items() if c[k]]
        where = f" ({', '.join(others)}): every class must occur in train" if others else ""
        raise ValueError(f"{name} train has no rows of class {class_names[k]!r}{where}")
    return next(iter(counts.values()))


def warn_of_lost_classes(name: str, y: Tensor, class_names: Sequence[str]) -> list[str]:
    """Warn if the division, or `limit`, left a class no row in train; return the warning as a note.

    >>> warn_of_lost_classes("mine", torch.tensor([0, 1, -1]), ["a", "b"])
    []
    """
    if not len(y):  # data for evaluation only, which are not divided
        return []
    counts = torch.bincount(y[y >= 0], minlength=len(class_names))
    lost = (counts == 0).nonzero()[:, 0].tolist()
    if not lost:
        return []
    first = shorten(class_names[lost[0]])
    what = f"class {first}" if len(lost) == 1 else f"{len(lost)} classes, the first is {first}"
    note = f"{name} train has no rows of {what}: raise limit, or lower test and val"
    warnings.warn(note, SparringWarning, stacklevel=3)
    return [note]


def row_count(key: str, value: Rows, n: int, default: int) -> int:
    """Return a number of rows, given it or a share of n.

    Raises:
        ValueError: for neither.

    >>> row_count("val", 0.25, 100, 10), row_count("val", None, 100, 10)
    (25, 10)
    """
    if value is None:
        return default
    # 1.0 is refused: it may mean one row, or all of them
    whole = (isinstance(value, Integral) and not isinstance(value, bool)) or (
        value > 1 and value == value // 1
    )
    allowed = "a number of rows ≥ 1 (an integer), or a share of train between 0 and 1"
    require(0 < value < 1 or (whole and value >= 1), key, value, allowed)
    return int(value) if value >= 1 else max(1, round(value * n))
