"""A multi-layer perceptron for tables and small images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from ..component import require
from .base import stages


def mlp(
    *, shape: Sequence[int], classes: int, hidden: Sequence[int] = (300, 300, 300)
) -> nn.Sequential:
    """Build fully connected layers with ReLU between them; an input of any shape is flattened.

    Source: three layers of 300 as in the ALFA malware framework, without its log-softmax.

    >>> mlp(shape=(1, 8, 8), classes=10, hidden=[32])
    Sequential(
      (flatten): Flatten(start_dim=1, end_dim=-1)
      (linear1): Linear(in_features=64, out_features=32, bias=True)
      (relu1): ReLU()
      (linear): Linear(in_features=32, out_features=10, bias=True)
    )
    """
    require(all(h > 0 for h in hidden), "hidden", tuple(hidden), "widths above 0")
    sizes = [math.prod(shape), *hidden]
    body: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    for i in range(1, len(sizes)):
        body |= {f"linear{i}": nn.Linear(sizes[i - 1], sizes[i]), f"relu{i}": nn.ReLU()}
    return stages(**body, linear=nn.Linear(sizes[-1], classes))
