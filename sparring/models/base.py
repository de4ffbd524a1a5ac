"""Build named stages, check image shapes, and stack residual blocks, for all networks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from ..component import require


def stages(**modules: nn.Module) -> nn.Sequential:
    """Return a flat `Sequential` of named stages.

    >>> stages(flatten=nn.Flatten(), linear=nn.Linear(4, 2))[:1]
    Sequential(
      (flatten): Flatten(start_dim=1, end_dim=-1)
    )
    """
    return nn.Sequential(OrderedDict(modules))


def image_shape(shape: Sequence[int], *, least: int = 1) -> tuple[int, int, int]:
    """Return `shape` as (channels, height, width); raise unless both sides have `least` pixels.

    >>> image_shape([1, 28, 28], least=16)
    (1, 28, 28)
    """
    allowed = f"(channels, height, width) of at least {least} pixels a side for this network"
    require(len(shape) == 3 and min(shape[1:]) >= least, "shape", tuple(shape), allowed)
    return cast("tuple[int, int, int]", tuple(shape))


def residual_layer(
    block: type[nn.Module], first: int, out: int, *, blocks: int, stride: int, **kw: float
) -> nn.Sequential:
    """Stack `blocks` residual blocks from `first` to `out` channels; only the first one strides."""
    return nn.Sequential(
        *(block(out if i else first, out, stride=1 if i else stride, **kw) for i in range(blocks))
    )


class PreActBlock(nn.Module):
    """Residual block with batch norm and ReLU before each convolution.

    a = relu(bn₁(x))
    out = conv₂(drop(relu(bn₂(conv₁(a))))) + (x, or a strided conv₁ₓ₁(a) where the shape changes)

    Source: He et al. 2016, "Identity mappings in deep residual networks".
    """

    def __init__(self, first: int, out: int, *, stride: int, drop: float = 0.0) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(first)
        self.conv1 = nn.Conv2d(first, out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.drop = nn.Dropout(drop)
        changes = stride != 1 or first != out
        self.shortcut = (
            nn.Sequential(nn.Conv2d(first, out, 1, stride=stride, bias=False)) if changes else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(b, first, h, w)` to `(b, out, h/stride, w/stride)`."""
        a = F.relu(self.bn1(x))
        skip = x if self.shortcut is None else self.shortcut(a)
        return self.conv2(self.drop(F.relu(self.bn2(self.conv1(a))))) + skip
