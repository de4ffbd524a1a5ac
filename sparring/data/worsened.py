"""Worsen training rows on purpose, to study a method: wrong labels, and classes with few rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..component import require
from ..runtime.seeding import derive_seed
from .split import Split

NOISE, SHARES = 1, 2  # each has draws of its own, so that one changes nothing of the other


def check_worsening(
    *, label_noise: float | None = None, class_shares: Sequence[float] | None = None
) -> None:
    """Raise a `ValueError` for arguments that no training rows could have."""
    ok = label_noise is None or 0 <= label_noise < 1
    require(ok, "label_noise", label_noise, "a share of the rows, 0 ≤ share < 1")
    ok = class_shares is None or (len(class_shares) > 1 and all(0 < s <= 1 for s in class_shares))
    require(ok, "class_shares", class_shares, "a share of the rows of each class, 0 < share ≤ 1")


def with_class_shares(split: Split, shares: Sequence[float], classes: int, seed: int) -> Split:
    """Keep a share of each class's rows, drawn by the seed, one at least; unlabeled rows stay.

    Raises:
        ValueError: unless there is one share per class.

    >>> split = Split(torch.rand(12, 2), torch.tensor([0] * 8 + [1] * 4))
    >>> with_class_shares(split, [0.25, 1], 2, seed=0).y.tolist()
    [0, 0, 1, 1, 1, 1]
    """
    allowed = f"{classes} shares of rows, one per class"
    require(len(shares) == classes, "class_shares", list(shares), allowed)
    generator = torch.Generator().manual_seed(derive_seed(seed, SHARES))
    order = torch.randperm(len(split.y), generator=generator)
    kept = [order[split.y[order] < 0]]
    for k, share in enumerate(shares):
        rows = order[split.y[order] == k]
        kept.append(rows[: max(1, round(share * len(rows)))])
    return split.take(torch.cat(kept).sort().values)


def with_label_noise(split: Split, share: float, classes: int, seed: int) -> Split:
    """Give a share of the labeled rows, drawn by the seed, the label of another class.

    Each other class is as likely: *symmetric* label noise.

    >>> split = Split(torch.rand(10, 2), torch.zeros(10, dtype=torch.long))
    >>> sorted(with_label_noise(split, 0.2, 2, seed=0).y.tolist())
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, NOISE))
    labeled = (split.y >= 0).nonzero()[:, 0]
    order = torch.randperm(len(labeled), generator=generator)
    rows = labeled[order[: round(share * len(labeled))]]
    step = torch.randint(1, classes, (len(rows),), generator=generator)
    y = split.y.clone()
    y[rows] = (y[rows] + step) % classes
    return Split(split.x, y, split.index, split.weight)
