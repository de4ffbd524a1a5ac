"""Prepare the rows of a training: equal ones merged, in an order of their own, some held out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ..component import require
from ..data import Source, Split
from ..data.split import fingerprint, hold_out
from .scaling import Scaling

LEAST_VALIDATION = 100  # of fewer rows, an early epoch would win by chance


class WeightedRows(NamedTuple):
    """Hold distinct rows x (n, d), their class numbers y (n,), and weights (n,) > 0."""

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray


def merged_rows(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> WeightedRows:
    """Return each distinct (x, y) once, with the sum of its weights, in an order of their bytes.

    So a weight of 2 is the row twice, bit for bit, and the order of the rows does not matter.

    >>> merged_rows(np.array([[1.0], [0.0], [1.0]]), np.array([0, 1, 0]), np.ones(3)).weight
    array([1., 2.])
    """
    kept = weight > 0
    x, y, weight = x[kept] + 0.0, y[kept], weight[kept]  # + 0.0: -0.0 is 0.0, in its bytes too
    pairs = np.ascontiguousarray(np.column_stack([x, y.astype(np.float64)]))
    keys = pairs.view(np.dtype((np.void, pairs.itemsize * pairs.shape[1])))[:, 0]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    # sorted, since sums of weights in another order would differ in their last bit
    order = np.lexsort((weight, inverse))
    total = np.zeros(len(first))
    np.add.at(total, inverse[order], weight[order])
    return WeightedRows(x[first], y[first], total)


def source_of(
    rows: WeightedRows,
    scaling: Scaling,
    class_names: list[str],
    bounds: tuple[float, float],
    *,
    share: float,
    seed: int,
) -> Source:
    """Return the rows as a source, a share of each class held out for validation.

    Where that would be fewer than 100 rows, validation measures the training rows themselves.

    Raises:
        ValueError: for a share outside [0, 1).
    """
    require(0 <= share < 1, "validation_fraction", share, "a share in [0, 1)")
    y, weight = torch.from_numpy(rows.y), torch.from_numpy(rows.weight.astype(np.float32))
    whole = Split(scaling.tensor(rows.x), y, weight=weight)
    train = val = whole
    if (n := int(share * len(y))) >= LEAST_VALIDATION:
        kept, out = hold_out(y, n, torch.Generator().manual_seed(seed))
        # a class with all of its few rows held out goes back: nothing else would teach it
        lost = ~torch.isin(y[out], y[kept])
        kept, out = torch.cat([kept, out[lost]]).sort().values, out[~lost]
        train, val = whole.take(kept), whole.take(out)
    digest = fingerprint(whole.x, y, weight)
    return Source("rows", train, val, val, class_names, bounds=bounds, sha256=digest)
