"""Binary features kept eight a byte, and unpacked batch by batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Packed:
    """Zeros and ones `(n, *d)` in ⌈d/8⌉ bytes a row; indexed as a tensor is, read by `float`.

    Arguments:
        bits: `(n, ⌈d/8⌉)` uint8, the first feature in the highest bit, as `np.packbits` puts it.
        row: shape of one row.

    >>> kept = Packed.of(torch.tensor([[1, 0, 1], [0, 1, 1]]))
    >>> kept.shape, kept.bits.tolist(), kept[1:].float()
    ((2, 3), [[160], [96]], tensor([[0., 1., 1.]]))
    """

    def __init__(self, bits: Tensor, row: Sequence[int]) -> None:
        self.bits, self.row = bits, tuple(row)

    @classmethod
    def of(cls, x: Tensor | np.ndarray) -> Packed:
        """From zeros and ones of any type."""
        a = np.asarray(x)
        kept = np.packbits(a.reshape(len(a), math.prod(a.shape[1:])) != 0, axis=1)
        return cls(torch.from_numpy(kept), a.shape[1:])

    def __len__(self) -> int:
        return len(self.bits)

    def __getitem__(self, rows: slice | Tensor) -> Packed:
        return Packed(self.bits[rows], self.row)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n, *d)`, of what is packed."""
        return (len(self.bits), *self.row)

    @property
    def device(self) -> torch.device:
        """Where the bytes are."""
        return self.bits.device

    def to(self, device: str | torch.device) -> Packed:
        """The same on a device."""
        return Packed(self.bits.to(device), self.row)

    def float(self) -> Tensor:
        """`(n, *d)` as float32, on the same device."""
        shift = torch.arange(7, -1, -1, dtype=torch.uint8, device=self.bits.device)
        each = (self.bits[:, :, None] >> shift).bitwise_and_(1).flatten(1)
        return each[:, : math.prod(self.row)].float().view(self.shape)


def binary(x: np.ndarray) -> bool:
    """Whether there is nothing but 0 and 1; the first rows are looked at first.

    >>> binary(np.array([[0.0, 1.0]])), binary(np.array([[0.5]])), binary(np.array([[np.nan]]))
    (True, False, False)
    """
    return all(bool(((part == 0) | (part == 1)).all()) for part in (x[:64], x))
