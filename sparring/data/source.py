"""One door to every data set: a known name, or a file or folder of the user's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..part import nearest, require
from . import files, named
from .fetch import plain
from .layouts import Raw
from .named import names
from .split import Bounds, Pair, Split, check, fingerprint, hold_out

TEST_SHARE = 0.15


@dataclass(frozen=True)
class Source:
    """A data set: three splits, bounds of the inputs, classes, and the sha256 of the content.

    Arguments:
        train: a `Split`, or a `Stream` where it does not fit in memory.
        val: held out of train, to choose by.
        test: to measure on, never to choose by.
        bounds: least and greatest value of the inputs.
        sha256: over everything read, before it was split.
    """

    name: str
    train: Split | Any
    val: Split
    test: Split
    class_names: list[str]
    bounds: Bounds = (0.0, 1.0)
    sha256: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.test.x.shape[1:])

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def to(self, device: str | torch.device) -> Source:
        """The same source with every split on a device."""
        moved = {s: getattr(self, s).to(device) for s in ("train", "val", "test")}
        return replace(self, **moved)


def load(
    name: str | Path,
    *,
    val: int | float | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    label: str | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    limit: int | None = None,
) -> Source:
    """A data set with train, validation and test splits.

    The validation split is held out of train by the seed, each class in its proportion; so is a
    test split (15 %) where the data bring none.

    Arguments:
        name: one of `names()`, or a path: `.npz` (`x_train, y_train` and perhaps `x_test, y_test`,
            `x_val, y_val`, `class_names`; or `x, y`), `.csv`, `.svm`/`.libsvm`/`.svmlight` (these
            also as `.gz`), or a folder: MNIST's, CIFAR's or SVHN's files, or pictures a class
            (`train/`, `test/`, `val/` are taken as the splits).
        val: rows (an integer) or share of train (below 1) held out; 10 %, at most 5,000 rows, when
            omitted.
        root: where a named set is looked for before the cache; `$SPARRING_DATA` when omitted.
        label: the csv's label column; its last when omitted.
        bounds: of the user's float inputs; uint8 is read as value/255, unless it is all 0 and 1.
        limit: keep at most this many rows of train, drawn by the seed.

    Raises:
        ValueError: for an unknown name, a damaged file, or data that are not what they should be.
        FileNotFoundError: for a missing file; for a named set it says which files to put where.

    >>> digits = load("digits")
    >>> digits.shape, digits.classes, len(digits.train), len(digits.val), len(digits.test)
    ((1, 8, 8), 10, 1375, 152, 270)
    """
    known = {plain(n): n for n in names()}
    if str(name) and plain(str(name)) in known:
        name = known[plain(str(name))]
        require(label is None, "label", label, "omitted: only a csv has a label column to name")
        raw = named.read(name, root)
    else:
        path = Path(name).expanduser()
        if not str(name) or (len(path.parts) == 1 and not path.suffix and not path.exists()):
            raise ValueError(nearest("data.name", str(name), names()) + ", or the path of a file")
        raw = files.read(path, label)
    return assemble(Path(name).name, raw, val=val, seed=seed, bounds=bounds, limit=limit)


def assemble(
    name: str,
    raw: Raw,
    *,
    val: int | float | None = None,
    seed: int = 0,
    bounds: Bounds = (0.0, 1.0),
    limit: int | None = None,
) -> Source:
    """A checked source from arrays; the arguments are `load`'s.

    Raises:
        ValueError: for NaN, values outside the bounds, labels outside the classes, or a split that
            would be empty.
    """
    low, high = bounds = (float(bounds[0]), float(bounds[1]))
    require(-np.inf < low < high < np.inf, "bounds", bounds, "two finite numbers, the lower first")
    flags = raw.train[0].dtype == np.uint8 and bool(raw.train[0].max(initial=0) <= 1)
    given = {"train": raw.train, "val": raw.val, "test": raw.test}
    parts = {s: _tensors(f"{name} {s}", *a, flags=flags) for s, a in given.items() if a is not None}
    class_names = raw.classes or [str(k) for k in range(_count(parts["train"][1]))]
    for s, (x, y) in parts.items():
        check(f"{name} {s}", x, y, len(class_names), bounds)
        if x.shape[1:] != parts["train"][0].shape[1:]:
            shapes = tuple(x.shape[1:]), tuple(parts["train"][0].shape[1:])
            raise ValueError(f"{name} {s} has samples of shape {shapes[0]}, train of {shapes[1]}")
        if x.is_floating_point():
            x.clamp_(low, high)
    if len(class_names) < 2:
        raise ValueError(f"{name} has {len(class_names)} class: there is nothing to tell apart")
    digest = fingerprint(*(t for pair in parts.values() for t in pair))
    splits = _part(name, parts, val=val, seed=seed, limit=limit)
    return Source(name, **splits, class_names=class_names, bounds=bounds, sha256=digest)


def _part(
    name: str, parts: dict[str, Pair], *, val: int | float | None, seed: int, limit: int | None
) -> dict[str, Split]:
    """The three splits: those given whole, the missing ones held out of train."""
    generator = torch.Generator().manual_seed(seed)
    whole = {s: Split(x, y) for s, (x, y) in parts.items()}
    train, y = whole["train"], whole["train"].y
    rows = torch.arange(len(y))
    if "test" not in whole:
        kept, held = hold_out(y, max(1, round(TEST_SHARE * int((y >= 0).sum()))), generator)
        rows, whole["test"] = kept, train.take(held)
    if "val" in whole:
        require(val is None, "val", val, f"omitted: {name} brings its own validation split")
    else:
        labeled = int((y[rows] >= 0).sum())
        n = _rows(val, labeled)
        require(n < labeled, "val", val, f"below the {labeled} labeled rows of {name}'s train")
        kept, held = hold_out(y[rows], n, generator)
        rows, whole["val"] = rows[kept], train.take(rows[held])
    require(len(rows) > 0, "val", val, f"smaller: {name} has too few rows to leave any in train")
    if limit is not None:
        require(limit >= 1, "limit", limit, "an integer ≥ 1")
        rows = rows[torch.randperm(len(rows), generator=generator)[:limit].sort().values]
    # all rows are the tensors themselves: no second copy of a large set
    whole["train"] = train.take(rows) if len(rows) < len(train) else train
    return whole


def _rows(val: int | float | None, n: int) -> int:
    if val is None:
        return min(5000, max(1, n // 10))
    whole = type(val) is int or (val > 1 and val == val // 1)  # 1.0 may be meant as everything
    allowed = "a number of rows ≥ 1 (an integer), or a share of train between 0 and 1"
    require(0 < val < 1 or (whole and val >= 1), "val", val, allowed)
    return int(val) if val >= 1 else max(1, round(val * n))


def _count(y: Tensor) -> int:
    return int(y.max()) + 1 if len(y) else 0


def _tensors(what: str, x: np.ndarray, y: np.ndarray, *, flags: bool) -> Pair:
    if x.dtype.kind not in "biuf" or y.dtype.kind not in "biuf":
        raise ValueError(f"{what} must hold numbers: x is {x.dtype}, y is {y.dtype}")
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1:
        raise ValueError(f"{what} has labels of shape {y.shape}; they must be (n,), one a sample")
    if y.dtype.kind == "f" and not (y == np.floor(y)).all():
        raise ValueError(f"{what} has labels that are no whole numbers")
    stored = x.dtype == np.uint8 and not flags
    x = np.ascontiguousarray(x if stored else x.astype(np.float32))
    return torch.from_numpy(x), torch.from_numpy(np.ascontiguousarray(y.astype(np.int64)))
