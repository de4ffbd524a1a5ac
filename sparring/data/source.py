"""Load a data set by its name, or from a file or folder of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..component import LARGEST, checked, did_you_mean, require, require_at_least
from ..runtime.text import printable
from . import files, named, tables
from .division import (
    Parts,
    Rows,
    check_classes_by_time,
    class_counts,
    divide,
    row_count,
    warn_of_lost_classes,
)
from .labels import class_numbers
from .layouts import RawDataset
from .named import names
from .packed import PackedBits, is_binary
from .picture_folder import FolderReader, stream_train
from .picture_sizes import make_fitting
from .readers import Arrays
from .split import (
    Bounds,
    Split,
    are_flags,
    check_labels,
    check_samples,
    fingerprint,
    withhold_labels,
)
from .worsened import check_worsening, with_class_shares, with_label_noise


@dataclass(frozen=True)
class Source:
    """Hold a data set: three splits, bounds of the inputs, classes, and the sha256 of the content.

    Arguments:
        train: a `Split`, or a `Stream` for data that do not fit in memory.
        val: held out of train; choose settings and epochs by it.
        test: measure on it, and never choose by it.
        sha256: over everything that was read, before splitting.
        mutable: one 0 or 1 per feature: whether an attacker can change it; None if unknown.
        notes: sentences on the rows that were dropped, and on those that remain.
        unlabelled: rows of train whose label `labels` removed.
        groups: features that move together, at most one in each sample; None if each
            moves alone.
        origin: the arguments of `load` that made it, if it did.
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
    groups: list[list[int]] | None = None
    origin: dict[str, Any] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        """Return sizes and shape; the rows themselves would fill pages."""
        sizes = ", ".join(f"{len(getattr(self, s)):,} {s}" for s in ("train", "val", "test"))
        facts = f"shape {self.shape}, {self.classes} classes"
        return f"Source({printable(self.name)!r}: {sizes}, {facts})"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.test.x.shape[1:])

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    def require_train(self) -> None:
        """Raise `ValueError` unless train and val have rows, with labels among the classes."""
        for part in ("train", "val"):
            split, what = getattr(self, part), f"{self.name} {part}"
            if not len(split):
                how = f"training needs some, as x_{part} and y_{part} of an npz"
                raise ValueError(f"{what} has no rows: {how}")
            if isinstance(split, Split):  # a stream checks each batch
                check_labels(what, split.x, split.y, self.classes)

    def to(self, device: str | torch.device) -> Source:
        """Return the source with every split on a device."""
        splits = {s: getattr(self, s) for s in ("train", "val", "test", "unlabelled")}
        return replace(self, **{s: v if v is None else v.to(device) for s, v in splits.items()})


@checked
def load(
    name: str | Path,
    *,
    val: Rows = None,
    test: Rows = None,
    seed: int = 0,
    root: str | Path | None = None,
    label: str | None = None,
    drop: str | Sequence[str] | None = None,
    time: str | None = None,
    groups: tables.ColumnGroups = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    limit: int | None = None,
    unique: bool | None = None,
    balance: bool | Sequence[float] = False,
    mutable: tables.MutableMask = None,
    labels: int | None = None,
    repeat: int | None = None,
    class_shares: Sequence[float] | None = None,
    label_noise: float | None = None,
    size: int | Sequence[int] | None = None,
    fit: str | None = None,
    stream: bool | None = None,
    workers: int | None = None,
) -> Source:
    """Load a data set with train, validation and test splits.

    The validation split is held out of train by the seed, each class in its proportion; so is the
    test split of data without one. Vectors of zeros and ones are kept packed, eight per byte.

    Arguments:
        name: one of `names()`, or a path (`"./mnist"` is one): `.npz` (`x_train, y_train` and
            perhaps `x_test, y_test`, `x_val, y_val`, `class_names`, `feature_names`, `mutable`; or
            `x, y`; or `x_test, y_test` alone, for evaluation), `.csv`,
            `.svm`/`.libsvm`/`.svmlight` (these also as `.gz`), or a folder: MNIST's, CIFAR's or
            SVHN's files, or one folder of pictures per class (with `train/`, `test/`, `val/` as the
            splits, where they exist).
        val: rows (an integer) or share of train (below 1) to hold out; default: 10 %, at most
            5,000 rows.
        test: the same of all rows; default: 15 %. The malware sets split 60/20/20 by default.
        root: folder to search for a named set before the cache; default: `$SPARRING_DATA`.
        label: the csv's label column; default: its last.
        drop: columns of the csv to leave out; columns that name the rows, as `sha256`, are left out
            anyway, and the notes say so.
        time: the csv's column of times, numbers or ISO dates: then the latest rows are the test
            split, those before them the validation split.
        groups: columns that move together in `Bits`, as the one-hot columns of a word: lists of
            names, or beginnings of names; a row has at most one of each group.
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
        class_shares: keep this share of each class's rows of train, to study rare classes.
        label_noise: give this share of train's labels another class, to study wrong labels.
        size: side or [height, width] that the pictures of a folder are fitted to; the cache keeps
            them. Default: all must have one size.
        fit: "crop" (default) keeps a picture's middle, "stretch" all of it, "pad" adds borders.
        stream: read train's pictures while the training runs, in colour, for folders that memory
            has no room for.
        workers: processes that decode pictures; default: none beside this one.

    Raises:
        ValueError: for an unknown name, a damaged file, or data of another form than described.
        FileNotFoundError: for a missing file; for a named set it says which files to put where.

    >>> digits = load("digits")
    >>> digits.shape, digits.classes, len(digits.train), len(digits.val), len(digits.test)
    ((1, 8, 8), 10, 1375, 152, 270)
    """
    origin = {key: value for key, value in locals().items() if value is not None}
    path, how = Path(name).expanduser(), make_fitting(size, fit, stream, workers)
    folder = None if how is None else FolderReader(how, lazily=bool(stream))
    known = named.find(str(name))
    if known and isinstance(name, Path) and path.exists():
        known, origin["name"] = None, f"./{name}"  # as text, too, a path and not the name
    if known:
        require(folder is None, "size", size, "omitted: only folders of pictures have it")
        files.refuse_csv_options(label, drop, time)
        name, raw = known, named.read(known, root)
    elif not str(name) or (len(path.parts) == 1 and not path.suffix and not path.exists()):
        message = did_you_mean("data.name", str(name), names(), listed="data")
        raise ValueError(message + "; or give the path of a file")
    else:
        if not path.exists():
            where = "" if path.is_absolute() else f" in {Path.cwd()}"
            raise FileNotFoundError(f"no file or folder {path}{where}: data.name must be its path")
        raw = files.read(path, label, drop=drop, time=time, folder=folder)
    if unique is not None:
        raw = raw._replace(unique=unique)
    options = {"val": val, "test": test, "seed": seed, "bounds": bounds}
    rest: dict[str, Any] = {"limit": limit, "balance": balance, "mutable": mutable}
    rest["groups"] = groups
    rest |= {"labels": labels, "repeat": repeat}
    rest |= {"class_shares": class_shares, "label_noise": label_noise}
    lazily = folder is not None and folder.lazily
    if folder is not None and lazily:
        require(unique is None, "unique", unique, "omitted with stream = true")
        require(label_noise is None, "label_noise", label_noise, "omitted with stream = true")
        # numbers of pictures, until they are read
        options["bounds"] = (0.0, float(len(folder.paths)))
    source = assemble(Path(name).name, raw, **options, **rest)
    more = stream_train(source, folder) if folder is not None and lazily else {}
    return replace(source, origin=origin, **more)


def assemble(
    name: str,
    raw: RawDataset,
    *,
    val: Rows = None,
    test: Rows = None,
    seed: int = 0,
    bounds: Bounds = (0.0, 1.0),
    limit: int | None = None,
    balance: bool | Sequence[float] = False,
    mutable: tables.MutableMask = None,
    groups: tables.ColumnGroups = None,
    labels: int | None = None,
    repeat: int | None = None,
    class_shares: Sequence[float] | None = None,
    label_noise: float | None = None,
) -> Source:
    """Check arrays and return them as a source; the arguments are those of `load`.

    Raises:
        ValueError: for NaN, values outside the bounds, labels outside the classes, a class without
            rows, or an empty split.
    """
    bounds = _checked_bounds(bounds)
    check_worsening(label_noise=label_noise, class_shares=class_shares)
    arrays = {"train": raw.train, "val": raw.val, "test": raw.test}
    arrays = {s: checked_arrays(f"{name} {s}", *a) for s, a in arrays.items() if a is not None}
    notes = list(raw.notes)
    if raw.unique:
        require(len(arrays) == 1, "unique", True, f"left out: {name} brings splits of its own")
        (x, y), (rows, dropped) = arrays["train"], tables.distinct_rows(*arrays["train"])
        arrays["train"] = x[rows], y[rows]
        raw = raw if raw.time is None else raw._replace(time=raw.time[rows])
        notes += dropped
    if raw.test and all(a.shape[:1] == (0,) for a in arrays["train"]):
        del arrays["train"]  # a test split alone serves for evaluation
    parts, class_names = _stored(name, arrays, raw.classes, bounds)
    counts = class_counts(name, {s: y for s, (_, y) in parts.items()}, class_names)
    if "train" not in parts:
        parts["train"] = tuple(t[:0] for t in parts["test"])  # type: ignore[assignment]
        notes.append(f"{name} has no train rows: it serves for evaluation only")
    elif notes:
        kept = ", ".join(f"{n} {c}" for c, n in zip(class_names, counts, strict=True))
        notes.append(f"{sum(counts)} rows kept: {kept}")
    digest = fingerprint(*(t for pair in parts.values() for t in pair))
    splits = divide(name, parts, raw, val=val, test=test, seed=seed, limit=limit)
    if raw.time is not None:
        check_classes_by_time(name, splits, class_names)
        sizes = ", ".join(f"{len(splits[part])} {part}" for part in ("train", "val", "test"))
        notes.append(f"split by time, the latest rows last: {sizes}")
    else:
        notes += warn_of_lost_classes(name, splits["train"].y, class_names)
    train, unlabelled = splits["train"], None
    if class_shares is not None and len(train):
        train = with_class_shares(train, class_shares, len(class_names), seed)
        notes.append(f"{len(train)} rows of train kept, by class_shares")
    if labels is not None and len(train):
        # a generator of its own: val and test stay the same for any number of labels
        generator = torch.Generator().manual_seed(int(seed))
        train, unlabelled = withhold_labels(train, labels, len(class_names), generator)
        notes.append(f"{len(train)} labels kept, {len(unlabelled)} rows without")
    if label_noise is not None and len(train):
        train = with_label_noise(train, label_noise, len(class_names), seed)
        notes.append(f"{label_noise:.0%} of train's labels are wrong on purpose, by label_noise")
    train, validation = (
        replace(split, weight=tables.class_weights(balance, split.y, len(class_names)))
        if len(split)
        else split
        for split in (train, splits["val"])
    )
    repeat = 1 if repeat is None else repeat
    require_at_least(1, repeat=repeat)
    train = train if repeat == 1 else train.take(torch.arange(len(train)).repeat(repeat))
    mask = _mutable(name, raw, mutable, parts)
    together = tables.column_groups(groups, raw.features, [x for x, _ in parts.values()])
    facts = (class_names, bounds, digest, raw.features, mask, notes, unlabelled, together)
    return Source(name, train, validation, splits["test"], *facts)


def _stored(
    name: str, arrays: Mapping[str, Arrays], classes: list[str] | None, bounds: Bounds
) -> tuple[Parts, list[str]]:
    """Return checked samples as a `Split` stores them, and the names of the classes."""
    # one decision for all splits: they must be read alike
    bits = all(x.ndim == 2 and is_binary(x) for x, _ in arrays.values())
    first, (like, labels) = next(iter(arrays.items()))
    parts: Parts = {
        s: (PackedBits.from_array(x) if bits else stored_tensor(x, like), torch.from_numpy(y))
        for s, (x, y) in arrays.items()
    }
    shape, count = like.shape[1:], int(labels.max(initial=-1)) + 1
    class_names = classes or [str(k) for k in range(count)]
    for s, (x, y) in parts.items():
        if not classes and len(y) and int(y.max()) >= count:
            allowed = f"with {count} classes in {first} they must be 0 to {count - 1}"
            what = f"{name} {s} has labels from {int(y.min())} to {int(y.max())}"
            raise ValueError(f"{what}: {allowed}, since every class must occur in {first}")
        check_samples(f"{name} {s}", x, y, len(class_names), bounds)
        if x.shape[1:] != shape:
            shapes = f"{tuple(x.shape[1:])}, {first} of {tuple(shape)}"
            raise ValueError(f"{name} {s} has samples of shape {shapes}")
        if isinstance(x, Tensor) and x.is_floating_point():
            x.clamp_(*bounds)  # check_samples lets rounding through: 1e-6 of the range
    return parts, class_names


def _mutable(
    name: str, raw: RawDataset, mutable: tables.MutableMask, parts: Parts
) -> list[int] | None:
    """Return the user's mask, or else the file's; raise unless the features are binary."""
    d = int(np.prod(parts["train"][0].shape[1:]))
    if raw.features is not None and len(raw.features) != d:
        raise ValueError(f"{name} has {len(raw.features)} feature names and {d} features")
    mask = tables.mutable_mask(raw.mutable if mutable is None else mutable, d, raw.features)
    for s, (x, _) in parts.items() if mask is not None else ():
        if not isinstance(x, PackedBits) and len(odd := x[(x != 0) & (x != 1)]):
            why = "a mask of mutable features is for binary data, all 0 and 1"
            raise ValueError(f"{name} {s} has the value {odd[0].item():g}: {why}")
    return mask


def check_options(
    *,
    val: Rows = None,
    test: Rows = None,
    bounds: Sequence[float] = (0.0, 1.0),
    limit: int | None = None,
    balance: bool | Sequence[float] = False,
    labels: int | None = None,
    repeat: int | None = None,
    class_shares: Sequence[float] | None = None,
    label_noise: float | None = None,
    size: int | Sequence[int] | None = None,
    fit: str | None = None,
    stream: bool | None = None,
    workers: int | None = None,
) -> None:
    """Raise `ValueError` for options of `load` that no data set takes."""
    _checked_bounds(bounds)
    make_fitting(size, fit, stream, workers)
    for key, rows in (("val", val), ("test", test)):
        row_count(key, rows, 1, 1)
    counts = {"limit": limit, "labels": labels, "repeat": repeat}
    require_at_least(1, **{key: n for key, n in counts.items() if n is not None})
    check_worsening(label_noise=label_noise, class_shares=class_shares)
    ok = isinstance(balance, bool) or (len(balance) > 1 and min(balance) >= 0)
    require(ok, "balance", balance, "true, false, or a weight ≥ 0 of each class")


def _checked_bounds(bounds: Sequence[float]) -> Bounds:
    try:
        low, high = map(float, bounds)
    except (TypeError, ValueError):  # neither two, nor numbers
        low = high = np.nan
    allowed = f"two finite numbers, the lower first, at most {LARGEST:g} from 0"
    require(-LARGEST <= low < high <= LARGEST, "bounds", bounds, allowed)
    return (low, high)


def checked_arrays(what: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x and integer labels `(n,)`; raise unless both hold numbers, of as many rows."""
    if x.dtype.kind not in "biuf" or y.dtype.kind not in "biuf":
        raise ValueError(f"{what} must hold numbers: x is {x.dtype}, y is {y.dtype}")
    labels = class_numbers(f"y of {what}", y, whole=True).numpy()
    if not x.ndim:
        raise ValueError(f"{what} has x of shape (): it must be (n, *d), one row per sample")
    if len(x) != len(labels):
        raise ValueError(f"{what} has {len(x)} samples and {len(labels)} labels")
    return x, labels


def stored_tensor(x: np.ndarray, like: np.ndarray) -> Tensor:
    """Return an array as a `Split` stores it: uint8, unless `like` is all 0 and 1; else float32."""
    kept = x if x.dtype == np.uint8 and not are_flags(like) else x.astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(kept))
