"""Load a data set by its name, or from a file or folder of the user."""

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
from .fetch import normalized
from .layouts import RawDataset
from .named import names
from .packed import PackedBits, is_binary
from .split import Bounds, Inputs, Split, check_samples, fingerprint, hold_out, withhold_labels

TEST_SHARE, VAL_SHARE, VAL_MAX = 0.15, 0.1, 5000
RowCount = int | float | None


@dataclass(frozen=True)
class Source:
    """A data set: three splits, bounds of the inputs, classes, and the sha256 of the content.

    Arguments:
        train: a `Split`, or a `Stream` for data that do not fit in memory.
        val: held out of train; choose settings and epochs by it.
        test: measure on it, and never choose by it.
        bounds: lowest and highest value of the inputs.
        sha256: over everything that was read, before splitting.
        feature_names: one name per feature, or None.
        mutable: one 0 or 1 per feature: whether an attacker can change it; None if unknown.
        notes: sentences on the rows that were dropped, and on those that remain.
        unlabelled: rows of train whose label `labels` removed.
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
        """The shape of one sample."""
        return tuple(self.test.x.shape[1:])

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    def to(self, device: str | torch.device) -> Source:
        """Return the source with every split on a device."""
        moved = {s: getattr(self, s).to(device) for s in ("train", "val", "test")}
        rest = None if self.unlabelled is None else self.unlabelled.to(device)
        return replace(self, **moved, unlabelled=rest)


def load(
    name: str | Path,
    *,
    val: RowCount = None,
    test: RowCount = None,
    seed: int = 0,
    root: str | Path | None = None,
    label: str | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    limit: int | None = None,
    unique: bool | None = None,
    balance: bool | Sequence[float] = False,
    mutable: tables.MutableMask = None,
    labels: int | None = None,
    repeat: int | None = None,
) -> Source:
    """Load a data set with train, validation and test splits.

    The validation split is held out of train by the seed, each class in its proportion; so is the
    test split of data without one. Vectors of zeros and ones are kept packed, eight per byte.

    Arguments:
        name: one of `names()`, or a path: `.npz` (`x_train, y_train` and perhaps `x_test, y_test`,
            `x_val, y_val`, `class_names`, `feature_names`, `mutable`; or `x, y`), `.csv`,
            `.svm`/`.libsvm`/`.svmlight` (these also as `.gz`), or a folder: MNIST's, CIFAR's or
            SVHN's files, or one folder of pictures per class (with `train/`, `test/`, `val/` as the
            splits, where they exist).
        val: rows (an integer) or share of train (below 1) to hold out; default: 10 %, at most
            5,000 rows.
        test: the same of all rows; default: 15 %. The malware sets split 60/20/20 by default.
        root: folder to search for a named set before the cache; default: `$SPARRING_DATA`.
        label: the csv's label column; default: its last.
        bounds: of the user's float inputs; uint8 is read as value/255, unless it is all 0 and 1.
        limit: keep at most this many rows of train, drawn by the seed.
        unique: before splitting, drop rows that repeat another one, and rows whose features occur
            with two labels; default: only in the malware sets.
        balance: true gives every class the same mass, in training (`Batch.weight`) and in
            validation; or one weight per class.
        mutable: the features of binary data that an attacker can change: zeros and ones, or names
            of features, or a text file with either, one per line.
        labels: keep this many labels of train, drawn by the seed, each class in its proportion; the
            other rows become `unlabelled`, which `[data] mix` can add to the batches.
        repeat: visits of each row of train per epoch; default: one.

    Raises:
        ValueError: for an unknown name, a damaged file, or data of another form than described.
        FileNotFoundError: for a missing file; for a named set it says which files to put where.

    >>> digits = load("digits")
    >>> digits.shape, digits.classes, len(digits.train), len(digits.val), len(digits.test)
    ((1, 8, 8), 10, 1375, 152, 270)
    """
    known = {normalized(n): n for n in names()}
    if str(name) and normalized(str(name)) in known:
        name = known[normalized(str(name))]
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
    options: dict[str, Any] = {"val": val, "test": test, "seed": seed, "bounds": bounds}
    options |= {"limit": limit, "balance": balance, "mutable": mutable}
    options |= {"labels": labels, "repeat": repeat}
    return assemble(Path(name).name, raw, **options)


def assemble(
    name: str,
    raw: RawDataset,
    *,
    val: RowCount = None,
    test: RowCount = None,
    seed: int = 0,
    bounds: Bounds = (0.0, 1.0),
    limit: int | None = None,
    balance: bool | Sequence[float] = False,
    mutable: tables.MutableMask = None,
    labels: int | None = None,
    repeat: int | None = None,
) -> Source:
    """Check arrays and return them as a source; the arguments are those of `load`.

    Raises:
        ValueError: for NaN, values outside the bounds, labels outside the classes, a class without
            rows, or an empty split.
    """
    low, high = bounds = (float(bounds[0]), float(bounds[1]))
    require(-np.inf < low < high < np.inf, "bounds", bounds, "two finite numbers, the lower first")
    arrays = {"train": raw.train, "val": raw.val, "test": raw.test}
    arrays = {s: _checked_arrays(f"{name} {s}", *a) for s, a in arrays.items() if a is not None}
    notes = list(raw.notes)
    if raw.unique:
        require(len(arrays) == 1, "unique", True, f"left out: {name} brings splits of its own")
        arrays["train"], dropped = tables.drop_repeated(*arrays["train"])
        notes += dropped
    parts = _stored_tensors(arrays)
    class_names = raw.classes or [str(k) for k in range(_num_classes(parts["train"][1]))]
    for s, (x, y) in parts.items():
        check_samples(f"{name} {s}", x, y, len(class_names), bounds)
        if x.shape[1:] != parts["train"][0].shape[1:]:
            shapes = tuple(x.shape[1:]), tuple(parts["train"][0].shape[1:])
            raise ValueError(f"{name} {s} has samples of shape {shapes[0]}, train of {shapes[1]}")
        if isinstance(x, Tensor) and x.is_floating_point():
            x.clamp_(low, high)  # check_samples lets rounding through: 1e-6 of the range
    counts = _class_counts(name, parts["train"][1], class_names)
    if notes:
        kept = ", ".join(f"{n} {c}" for c, n in zip(class_names, counts, strict=True))
        notes.append(f"{sum(counts)} rows kept: {kept}")
    digest = fingerprint(*(t for pair in parts.values() for t in pair))
    splits = _divide(name, parts, val=val, test=test, seed=seed, limit=limit, shares=raw.shares)
    train, unlabelled = splits["train"], None
    if labels is not None:
        # a generator of its own: val and test stay the same for any number of labels
        generator = torch.Generator().manual_seed(seed)
        train, unlabelled = withhold_labels(train, labels, len(class_names), generator)
        notes.append(f"{len(train)} labels kept, {len(unlabelled)} rows without")
    train, validation = (
        replace(split, weight=tables.class_weights(balance, split.y, len(class_names)))
        for split in (train, splits["val"])
    )
    return Source(
        name,
        _repeated(train, repeat),
        validation,
        splits["test"],
        class_names=class_names,
        bounds=bounds,
        sha256=digest,
        feature_names=raw.features,
        mutable=_mutable(name, raw, mutable, parts),
        notes=notes,
        unlabelled=unlabelled,
    )


def _repeated(split: Split, times: int | None) -> Split:
    require(times is None or times >= 1, "repeat", times, "an integer ≥ 1")
    return split if times in (None, 1) else split.take(torch.arange(len(split)).repeat(times))


Parts = dict[str, tuple[Inputs, Tensor]]


def _class_counts(name: str, y: Tensor, class_names: Sequence[str]) -> list[int]:
    """Return the number of rows per class; raise if a class has none."""
    if len(class_names) < 2:
        raise ValueError(f"{name} has {len(class_names)} class: there is nothing to tell apart")
    counts = torch.bincount(y[y >= 0], minlength=len(class_names)).tolist()
    if 0 in counts:
        raise ValueError(f"{name} train has no rows of class {class_names[counts.index(0)]!r}")
    return counts


def _mutable(
    name: str, raw: RawDataset, mutable: tables.MutableMask, parts: Parts
) -> list[int] | None:
    """Return the user's mask, or else the file's; raise unless the features are binary."""
    x = parts["train"][0]
    d = int(np.prod(x.shape[1:]))
    if raw.features is not None and len(raw.features) != d:
        raise ValueError(f"{name} has {len(raw.features)} feature names and {d} features")
    mask = tables.mutable_mask(raw.mutable if mutable is None else mutable, d, raw.features)
    for s, (x, _) in parts.items() if mask is not None else ():
        odd = None if isinstance(x, PackedBits) else x[(x != 0) & (x != 1)]
        if odd is not None and len(odd):
            raise ValueError(
                f"{name} {s} has the value {odd[0].item():g}: a mask of mutable features is for "
                "binary data, all 0 and 1"
            )
    return mask


def _divide(
    name: str,
    parts: Parts,
    *,
    val: RowCount,
    test: RowCount,
    seed: int,
    limit: int | None,
    shares: tuple[float, float] | None,
) -> dict[str, Split]:
    """Return the three splits: those of the data as they are, missing ones held out of train."""
    # one generator for test, then val, then limit: this order of draws defines every named split
    generator = torch.Generator().manual_seed(seed)
    whole = {s: Split(x, y) for s, (x, y) in parts.items()}
    train, y = whole["train"], whole["train"].y
    rows, every = torch.arange(len(y)), int((y >= 0).sum())
    if "test" in whole:
        require(test is None, "test", test, f"omitted: {name} brings its own test split")
    else:
        default = max(1, round((shares[0] if shares else TEST_SHARE) * every))
        n = _row_count("test", test, every, default)
        require(n < every, "test", test, f"below the {every} labeled rows of {name}")
        kept, out = hold_out(y, n, generator)
        rows, whole["test"] = kept, train.take(out)
    if "val" in whole:
        require(val is None, "val", val, f"omitted: {name} brings its own validation split")
    else:
        labeled = int((y[rows] >= 0).sum())
        default = min(VAL_MAX, max(1, int(VAL_SHARE * labeled)))
        n = _row_count("val", val, labeled, round(shares[1] * every) if shares else default)
        require(n < labeled, "val", val, f"below the {labeled} labeled rows of {name}'s train")
        kept, out = hold_out(y[rows], n, generator)
        rows, whole["val"] = rows[kept], train.take(rows[out])
    require(len(rows) > 0, "val", val, f"smaller: {name} has too few rows to leave any in train")
    if limit is not None:
        require(limit >= 1, "limit", limit, "an integer ≥ 1")
        rows = rows[torch.randperm(len(rows), generator=generator)[:limit].sort().values]
    # taking all rows would copy a large set; use the tensors themselves
    whole["train"] = train.take(rows) if len(rows) < len(train) else train
    return whole


def _row_count(key: str, value: RowCount, n: int, default: int) -> int:
    if value is None:
        return default
    # 1.0 is refused: it may mean one row, or all of them
    whole = type(value) is int or (value > 1 and value == value // 1)
    allowed = "a number of rows ≥ 1 (an integer), or a share of train between 0 and 1"
    require(0 < value < 1 or (whole and value >= 1), key, value, allowed)
    return int(value) if value >= 1 else max(1, round(value * n))


def _num_classes(y: Tensor) -> int:
    return int(y.max()) + 1 if len(y) else 0


def _checked_arrays(what: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x and integer labels `(n,)`; raise unless both hold numbers."""
    if x.dtype.kind not in "biuf" or y.dtype.kind not in "biuf":
        raise ValueError(f"{what} must hold numbers: x is {x.dtype}, y is {y.dtype}")
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1:
        raise ValueError(f"{what} has labels of shape {y.shape}; they must be (n,), one per sample")
    if y.dtype.kind == "f" and not (y == np.floor(y)).all():
        raise ValueError(f"{what} has labels that are not whole numbers")
    return x, np.ascontiguousarray(y.astype(np.int64))


def _stored_tensors(arrays: dict[str, tuple[np.ndarray, np.ndarray]]) -> Parts:
    """Return arrays as a `Split` stores them: bits packed, uint8 as it is, all else float32."""
    train = arrays["train"][0]
    # one decision for all splits: they must be read alike
    bits = all(x.ndim == 2 and is_binary(x) for x, _ in arrays.values())
    flags = train.dtype == np.uint8 and bool(train.max(initial=0) <= 1)

    def stored(x: np.ndarray) -> Inputs:
        if bits:
            return PackedBits.from_array(x)
        kept = x if x.dtype == np.uint8 and not flags else x.astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(kept))

    return {s: (stored(x), torch.from_numpy(y)) for s, (x, y) in arrays.items()}
