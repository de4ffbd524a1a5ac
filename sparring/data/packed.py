"""Binary features stored eight per byte, and unpacked batch by batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class PackedBits:
    """Zeros and ones `(n, *d)` in ⌈d/8⌉ bytes per row, indexed like a tensor.

    Arguments:
        bits: `(n, ⌈d/8⌉)` uint8, the first feature in the highest bit, as in `np.packbits`.
        row: shape of one row.

    >>> packed = PackedBits.from_array(torch.tensor([[1, 0, 1], [0, 1, 1]]))
    >>> packed.shape, packed.bits.tolist(), packed[1:].unpack()
    ((2, 3), [[160], [96]], tensor([[0., 1., 1.]]))
    """

    def __init__(self, bits: Tensor, row: Sequence[int]) -> None:
        self.bits, self.row = bits, tuple(row)

    @classmethod
    def from_array(cls, x: Tensor | np.ndarray) -> PackedBits:
        """Pack zeros and ones of any type."""
        a = np.asarray(x)
        bits = np.packbits(a.reshape(len(a), math.prod(a.shape[1:])) != 0, axis=1)
        return cls(torch.from_numpy(bits), a.shape[1:])

    def __len__(self) -> int:
        return len(self.bits)

    def __getitem__(self, rows: slice | Tensor) -> PackedBits:
        return PackedBits(self.bits[rows], self.row)

    @property
    def shape(self) -> tuple[int, ...]:
        """The unpacked shape `(n, *d)`."""
        return (len(self.bits), *self.row)

    @property
    def device(self) -> torch.device:
        """The device of the bytes."""
        return self.bits.device

    def to(self, device: str | torch.device) -> PackedBits:
        """Return the packed bits on a device."""
        return PackedBits(self.bits.to(device), self.row)

    def unpack(self) -> Tensor:
        """Return zeros and ones `(n, *d)` as float32, on the same device."""
        shift = torch.arange(7, -1, -1, dtype=torch.uint8, device=self.bits.device)
        unpacked = (self.bits[:, :, None] >> shift).bitwise_and_(1).flatten(1)
        return unpacked[:, : math.prod(self.row)].float().view(self.shape)


def is_binary(x: np.ndarray) -> bool:
    """Return whether an array has only 0 and 1.

    >>> [is_binary(np.array(x)) for x in ([[0.0, 1.0]], [[0.5]], [[np.nan]])]
    [True, False, False]
    """
    # the first rows alone rule out most arrays, without a pass over a large one
    return all(bool(((part == 0) | (part == 1)).all()) for part in (x[:64], x))
