"""Labels from anywhere as class numbers: converted where that is safe, else refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import limits

ONE_EACH = "labels must be integers (n,), one class number per sample"


def class_numbers(what: str, y: Any, *, whole: bool = False) -> Tensor:
    """Return labels `(n,)` as int64, on their device. Their range is for others to check.

    Arguments:
        what: begins the message.
        y: a tensor, an array or a list of integers of any width, or of booleans; -1 is unlabeled.
        whole: take floats too, if they are whole numbers, as in a file without integers.

    Raises:
        ValueError: for other labels, or more than `limits.max_classes()` classes.

    >>> class_numbers("y", np.array([2, 0], dtype=np.uint8))
    tensor([2, 0])
    >>> class_numbers("y", torch.tensor([[0, 1], [1, 0]]))
    Traceback (most recent call last):
    ValueError: y has labels of shape (2, 2), int64: labels must be integers (n,), ...
    """
    given = _tensor(what, y)
    y = given[:, 0] if given.ndim == 2 and given.shape[1] == 1 else given
    kind = str(given.dtype).removeprefix("torch.")
    if y.ndim != 1 or y.is_complex() or (y.is_floating_point() and not whole):
        one_hot = y.ndim == 2 and y.shape[1] > 1
        how = "; y.argmax(1) gives them for one-hot rows or probabilities" if one_hot else ""
        shape = f"labels of shape {tuple(given.shape)}, {kind}"
        raise ValueError(f"{what} has {shape}: {ONE_EACH}{how}")
    if y.is_floating_point():
        odd = y[~(y == y.floor()) | (y.abs() >= 2**53)][:1]  # true of NaN too
        if len(odd):
            raise ValueError(f"{what} has labels that are not whole numbers, as {odd[0]:g}")
    out = y.detach().to(torch.int64)
    if len(out):
        if kind == "uint64" and int(out.min()) < 0:
            raise ValueError(f"{what} has labels of 2^63 and more: {ONE_EACH}")
        limits.check_classes(what, int(out.max()) + 1)
    return out.contiguous()


def is_class_numbers(y: Any) -> bool:
    """Return whether labels are stored as `class_numbers` returns them, without a look at each."""
    return isinstance(y, Tensor) and y.dtype == torch.int64 and y.ndim == 1


def _tensor(what: str, y: Any) -> Tensor:
    if isinstance(y, Tensor):
        return y
    try:
        array = np.asarray(y)
    except ValueError:  # rows of several lengths
        raise ValueError(f"{what} is uneven: {ONE_EACH}") from None
    if array.dtype.kind not in "biuf":
        kind = "text" if array.dtype.kind in "US" else array.dtype
        raise ValueError(f"{what} is {'None' if y is None else kind}: {ONE_EACH}")
    if array.dtype.byteorder not in ("=", "|"):
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.itemsize > 8:  # long double
        array = array.astype(np.float64)
    # copied where it must be: torch takes neither backward nor read-only memory
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))
