"""Checks before a training: samples and labels of the data, radii of the adversaries."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

from torch import nn

from ..attacks import WarmStart
from ..attacks.base import Attack
from ..data import Augment, Source, Split, Stream
from ..data.split import check_labels
from ..runtime.warning import SparringWarning
from .schedule import BoundSchedule


def check_data(source: Source, val: Split, *, mixed: bool) -> None:
    """Raise `ValueError` unless train and validation hold samples with labels of the classes.

    Arguments:
        val: the rows of the validation split that are used.
        mixed: whether other rows join those of train.
    """
    splits = {} if isinstance(source.train, Stream) else {"train": source.train}
    splits["val"] = val
    shape = tuple(val.x.shape[1:])
    for name, split in splits.items():
        what = f"{source.name} {name}"
        if not len(split):
            raise ValueError(f"{what} is empty: it needs one row at least")
        if tuple(split.x.shape[1:]) != shape:
            shapes = f"{tuple(split.x.shape[1:])}, val of {shape}"
            raise ValueError(f"{what} has samples of shape {shapes}")
        if split.weight is not None and not (split.weight > 0).any():
            raise ValueError(f"{what} has no row whose weight is above 0: change data.balance")
        _check_labels(what, split, source.classes, unlabelled=mixed and name == "train")
    if "train" in splits:
        _warn_of_missing_classes(source)


def check_radii(
    attack: Attack | None, schedules: Iterable[BoundSchedule], shape: Sequence[int]
) -> None:
    """Raise `ValueError` if the threat's ball holds the whole box, now or at a schedule's value."""
    threat = getattr(attack, "threat", None)
    if threat is not None:
        threat.check_reachable(shape)
        for schedule in schedules:
            schedule.check_values(lambda: threat.check_reachable(shape))


def prepare_warm_start(
    attack: Attack | None, train: Split | Stream, augment: Sequence[Augment], *, mixed: bool
) -> None:
    """Tell an attack that goes on from the last epoch's points how many rows there are.

    Arguments:
        mixed: whether other rows join those of train; then no moved pixel is followed.

    Raises:
        ValueError: if an augmentation changes pixels in a way that a perturbation cannot follow.
    """
    if not isinstance(attack, WarmStart):
        return
    for piece in augment:
        if piece.places == "mixed" or (mixed and piece.places == "moved"):
            raise ValueError(
                f"augment has {piece}, which may change where pixels are in a way that WarmStart "
                "cannot follow: leave it out, or use attack = PGD or NFGSM"
            )
    attack.prepare(len(train) if isinstance(train, Stream) else int(train.index.max()) + 1)


def warn_of_short_batch(rows: int, batch_size: int) -> None:
    """Warn of a last batch with fewer rows: programs are compiled once more for its shape."""
    rest = rows % batch_size
    if rest and rows > batch_size:
        near = [b for b in range(1, 2 * batch_size) if rows % b == 0]
        nearest = min(near, key=lambda b: abs(b - batch_size))
        warnings.warn(
            f"the last batch of an epoch has {rest} rows in place of {batch_size}, and everything "
            f"is compiled again for it: batch_size = {nearest} divides the {rows} rows, or leave "
            "compile off",
            SparringWarning,
            stacklevel=5,
        )


def check_mixed_labels(objective: nn.Module, augment: Sequence[Augment]) -> None:
    """Raise `ValueError` if augmentation mixes labels, and a piece of the objective needs one class
    per sample."""
    mixing = [piece for piece in augment if piece.mixes_labels]
    needing = [m for m in objective.modules() if getattr(m, "one_class_per_sample", False)]
    if mixing and needing:
        name = type(needing[0]).__name__
        raise ValueError(
            f"augment has {mixing[0]}, whose labels are mixed, and {name} needs one class per "
            "sample: leave one of them out"
        )


def _check_labels(what: str, split: Split, classes: int, *, unlabelled: bool) -> None:
    check_labels(what, split.x, split.y, classes)
    if int(split.y.max()) < 0 and not unlabelled:
        raise ValueError(f"{what} has no labels: all of its {len(split)} rows are -1, unlabeled")


def _warn_of_missing_classes(source: Source) -> None:
    """Warn of classes that the validation or test split has, and train has not."""
    taught = set(source.train.y.unique().tolist())
    measured = set(source.val.y.unique().tolist()) | set(source.test.y.unique().tolist())
    missing = [source.class_names[k] for k in sorted(measured - taught) if k >= 0]
    if missing:
        warnings.warn(
            f"{source.name} train has no rows of {', '.join(map(repr, missing[:5]))}"
            f"{' and other classes' if len(missing) > 5 else ''}, which are measured: every such "
            "row will count as wrong",
            SparringWarning,
            stacklevel=4,
        )
