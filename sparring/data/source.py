"""One door to every data set: a known name, or a file or folder of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..component import did_you_mean, require
from . import files, named, tables
from .fetch import plain
from .layouts import Raw
from .named import names
from .packed import Packed, binary
from .split import Bounds, Inputs, Split, check, fingerprint, hold_out, withhold

TEST_SHARE, VAL_SHARE, VAL_MOST = 0.15, 0.1, 5000
Rows = int | float | None


@dataclass(frozen=True)
class Source:
    """A data set: three splits, bounds of the inputs, classes, and the sha256 of the content.

    Arguments:
        train: a `Split`, or a `Stream` where it does not fit in memory.
        val: held out of train, to choose by.
        test: to measure on, never to choose by.
        bounds: least and greatest value of the inputs.
        sha256: over everything read, before it was split.
        feature_names: a name a feature, None where the data have none.
        mutable: zeros and ones, the features an attacker can change, None where nothing is known.
        notes: what was left out of the files, and what remained, in words.
        unlabelled: rows of train whose label `labels` took away.
    """

    name: str
    train: Split | Any
    val: Split
    test: Split
    class_names: list[str]
    bounds: Bounds = (0.0, 1.0)
    sha256: str = ""
    feature_names: list[str] | None = None
    mutable: list[int] | None = None
    notes: list[str] = field(default_factory=list)
    unlabelled: Split | None = None

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
        rest = None if self.unlabelled is None else self.unlabelled.to(device)
        return replace(self, **moved, unlabelled=rest)


def load(
    name: str | Path,
    *,
    val: Rows = None,
    test: Rows = None,
    seed: int = 0,
    root: str | Path | None = None,
    label: str | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    limit: int | None = None,
    unique: bool | None = None,
    balance: bool | Sequence[float] = False,
    mutable: tables.Mask = None,
    labels: int | None = None,
    repeat: int | None = None,
) -> Source:
    """A data set with train, validation and test splits.

    The validation split is held out of train by the seed, each class in its proportion; so is a
    test split where the data bring none. Vectors of zeros and ones are kept packed, eight a byte.

    Arguments:
        name: one of `names()`, or a path: `.npz` (`x_train, y_train` and perhaps `x_test, y_test`,
            `x_val, y_val`, `class_names`, `feature_names`, `mutable`; or `x, y`), `.csv`,
            `.svm`/`.libsvm`/`.svmlight` (these also as `.gz`), or a folder: MNIST's, CIFAR's or
            SVHN's files, or pictures a class (`train/`, `test/`, `val/` are taken as the splits).
        val: rows (an integer) or share of train (below 1) held out; 10 %, at most 5,000 rows, when
            omitted.
        test: the same of all rows; 15 % when omitted. The malware sets split 60/20/20 by default.
        root: where a named set is looked for before the cache; `$SPARRING_DATA` when omitted.
        label: the csv's label column; its last when omitted.
        bounds: of the user's float inputs; uint8 is read as value/255, unless it is all 0 and 1.
        limit: keep at most this many rows of train, drawn by the seed.
        unique: drop rows that repeat another one, and all whose features come with two labels,
            before splitting; the malware sets do so where omitted.
        balance: true gives every class the same mass, in training (`Batch.weight`) and in
            validation; or weights, one a class.
        mutable: the features that an attacker can change, of binary data: zeros and ones, or names
            of features, or a text file with either, one a line.
        labels: keep so many labels of train, drawn by the seed, each class in its proportion; the
            other rows become `unlabelled`, which `[data] mix` can add to the batches.
        repeat: how often an epoch visits each row of train; once, when omitted.

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
            raise ValueError(
                did_you_mean("data.name", str(name), names()) + ", or the path of a file"
            )
        raw = files.read(path, label)
    if unique is not None:
        raw = raw._replace(unique=unique)
    how: dict[str, Any] = {"val": val, "test": test, "seed": seed, "bounds": bounds}
    how |= {"limit": limit, "balance": balance, "mutable": mutable}
    how |= {"labels": labels, "repeat": repeat}
    return assemble(Path(name).name, raw, **how)


def assemble(
    name: str,
    raw: Raw,
    *,
    val: Rows = None,
    test: Rows = None,
    seed: int = 0,
    bounds: Bounds = (0.0, 1.0),
    limit: int | None = None,
    balance: bool | Sequence[float] = False,
    mutable: tables.Mask = None,
    labels: int | None = None,
    repeat: int | None = None,
) -> Source:
    """A checked source from arrays; the arguments are `load`'s.

    Raises:
        ValueError: for NaN, values outside the bounds, labels outside the classes, a class without
            rows, or a split that would be empty.
    """
    low, high = bounds = (float(bounds[0]), float(bounds[1]))
    require(-np.inf < low < high < np.inf, "bounds", bounds, "two finite numbers, the lower first")
    given = {"train": raw.train, "val": raw.val, "test": raw.test}
    given = {s: _arrays(f"{name} {s}", *a) for s, a in given.items() if a is not None}
    notes = list(raw.notes)
    if raw.unique:
        require(len(given) == 1, "unique", True, f"left out: {name} brings splits of its own")
        given["train"], more = tables.distinct(*given["train"])
        notes += more
    parts = _tensors(given)
    class_names = raw.classes or [str(k) for k in range(_count(parts["train"][1]))]
    for s, (x, y) in parts.items():
        check(f"{name} {s}", x, y, len(class_names), bounds)
        if x.shape[1:] != parts["train"][0].shape[1:]:
            shapes = tuple(x.shape[1:]), tuple(parts["train"][0].shape[1:])
            raise ValueError(f"{name} {s} has samples of shape {shapes[0]}, train of {shapes[1]}")
        if isinstance(x, Tensor) and x.is_floating_point():
            x.clamp_(low, high)
    counts = _counted(name, parts["train"][1], class_names)
    if notes:
        kept = ", ".join(f"{n} {c}" for c, n in zip(class_names, counts, strict=True))
        notes.append(f"{sum(counts)} rows kept: {kept}")
    digest = fingerprint(*(t for pair in parts.values() for t in pair))
    splits = _part(name, parts, val=val, test=test, seed=seed, limit=limit, shares=raw.shares)
    train, rest = splits["train"], None
    if labels is not None:
        generator = torch.Generator().manual_seed(seed)
        train, rest = withhold(train, labels, len(class_names), generator)
        notes.append(f"{len(train)} labels kept, {len(rest)} rows without")
    train, held = (
        replace(split, weight=tables.weights(balance, split.y, len(class_names)))
        for split in (train, splits["val"])
    )
    return Source(
        name,
        _repeated(train, repeat),
        held,
        splits["test"],
        class_names=class_names,
        bounds=bounds,
        sha256=digest,
        feature_names=raw.features,
        mutable=_mutable(name, raw, mutable, parts),
        notes=notes,
        unlabelled=rest,
    )


def _repeated(split: Split, times: int | None) -> Split:
    require(times is None or times >= 1, "repeat", times, "an integer ≥ 1")
    return split if times in (None, 1) else split.take(torch.arange(len(split)).repeat(times))


Parts = dict[str, tuple[Inputs, Tensor]]


def _counted(name: str, y: Tensor, class_names: Sequence[str]) -> list[int]:
    """Rows a class; every class must have some."""
    if len(class_names) < 2:
        raise ValueError(f"{name} has {len(class_names)} class: there is nothing to tell apart")
    counts = torch.bincount(y[y >= 0], minlength=len(class_names)).tolist()
    if 0 in counts:
        raise ValueError(f"{name} train has no rows of class {class_names[counts.index(0)]!r}")
    return counts


def _mutable(name: str, raw: Raw, mutable: tables.Mask, parts: Parts) -> list[int] | None:
    """The mask given, or else the file's; it makes sense for binary features only."""
    x = parts["train"][0]
    d = int(np.prod(x.shape[1:]))
    if raw.features is not None and len(raw.features) != d:
        raise ValueError(f"{name} has {len(raw.features)} feature names and {d} features")
    found = tables.mask(raw.mutable if mutable is None else mutable, d, raw.features)
    for s, (x, _) in parts.items() if found is not None else ():
        odd = None if isinstance(x, Packed) else x[(x != 0) & (x != 1)]
        if odd is not None and len(odd):
            raise ValueError(
                f"{name} {s} has the value {odd[0].item():g}: a mask of mutable features is for "
                "binary data, all 0 and 1"
            )
    return found


def _part(
    name: str,
    parts: Parts,
    *,
    val: Rows,
    test: Rows,
    seed: int,
    limit: int | None,
    shares: tuple[float, float] | None,
) -> dict[str, Split]:
    """The three splits: those given whole, the missing ones held out of train."""
    generator = torch.Generator().manual_seed(seed)
    whole = {s: Split(x, y) for s, (x, y) in parts.items()}
    train, y = whole["train"], whole["train"].y
    rows, every = torch.arange(len(y)), int((y >= 0).sum())
    if "test" in whole:
        require(test is None, "test", test, f"omitted: {name} brings its own test split")
    else:
        usual = max(1, round((shares[0] if shares else TEST_SHARE) * every))
        n = _rows("test", test, every, usual)
        require(n < every, "test", test, f"below the {every} labeled rows of {name}")
        kept, held = hold_out(y, n, generator)
        rows, whole["test"] = kept, train.take(held)
    if "val" in whole:
        require(val is None, "val", val, f"omitted: {name} brings its own validation split")
    else:
        labeled = int((y[rows] >= 0).sum())
        usual = min(VAL_MOST, max(1, int(VAL_SHARE * labeled)))
        n = _rows("val", val, labeled, round(shares[1] * every) if shares else usual)
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


def _rows(key: str, asked: Rows, n: int, usual: int) -> int:
    if asked is None:
        return usual
    whole = type(asked) is int or (asked > 1 and asked == asked // 1)  # 1.0 may mean everything
    allowed = "a number of rows ≥ 1 (an integer), or a share of train between 0 and 1"
    require(0 < asked < 1 or (whole and asked >= 1), key, asked, allowed)
    return int(asked) if asked >= 1 else max(1, round(asked * n))


def _count(y: Tensor) -> int:
    return int(y.max()) + 1 if len(y) else 0


def _arrays(what: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers, and whole ones `(n,)` as labels."""
    if x.dtype.kind not in "biuf" or y.dtype.kind not in "biuf":
        raise ValueError(f"{what} must hold numbers: x is {x.dtype}, y is {y.dtype}")
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1:
        raise ValueError(f"{what} has labels of shape {y.shape}; they must be (n,), one a sample")
    if y.dtype.kind == "f" and not (y == np.floor(y)).all():
        raise ValueError(f"{what} has labels that are no whole numbers")
    return x, np.ascontiguousarray(y.astype(np.int64))


def _tensors(given: dict[str, tuple[np.ndarray, np.ndarray]]) -> Parts:
    """As they are stored: bits packed, uint8 as it is, all else float32."""
    train = given["train"][0]
    bits = all(x.ndim == 2 and binary(x) for x, _ in given.values())
    flags = train.dtype == np.uint8 and bool(train.max(initial=0) <= 1)

    def stored(x: np.ndarray) -> Inputs:
        if bits:
            return Packed.of(x)
        kept = x if x.dtype == np.uint8 and not flags else x.astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(kept))

    return {s: (stored(x), torch.from_numpy(y)) for s, (x, y) in given.items()}
