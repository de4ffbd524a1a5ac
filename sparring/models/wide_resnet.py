"""Wide residual networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from ..component import require
from .base import PreActBlock, image, layer, stages


def wide_resnet(
    *, shape: Sequence[int], classes: int, depth: int = 28, widen: int = 10, drop: float = 0.0
) -> nn.Sequential:
    """WRN-depth-widen; 36,479,194 parameters for 28-10 and 46,160,474 for 34-10 on CIFAR-10.

    Three stages of (depth − 4)/6 pre-activation blocks with 16, 32, 64 × widen channels;
    convolutions start at N(0, 2 / (side² · out)).

    Source: Zagoruyko and Komodakis 2016, in the form of TRADES's code.
    Differs: without that code's second first block, which owns parameters and is never used.

    >>> len(wide_resnet(shape=(3, 32, 32), classes=10, depth=16, widen=1).block1)
    2
    """
    channels, _, _ = image(shape)
    require(
        depth >= 10 and (depth - 4) % 6 == 0,
        "depth",
        depth,
        "6n + 4 with n >= 1, as 10, 16, 28, 34, 70",
    )
    require(widen >= 1, "widen", widen, "at least 1")
    blocks, widths = (depth - 4) // 6, [16, 16 * widen, 32 * widen, 64 * widen]
    model = stages(
        conv1=nn.Conv2d(channels, 16, 3, padding=1, bias=False),
        block1=layer(PreActBlock, widths[0], widths[1], blocks=blocks, stride=1, drop=drop),
        block2=layer(PreActBlock, widths[1], widths[2], blocks=blocks, stride=2, drop=drop),
        block3=layer(PreActBlock, widths[2], widths[3], blocks=blocks, stride=2, drop=drop),
        bn1=nn.BatchNorm2d(widths[3]),
        relu=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(widths[3], classes),
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    nn.init.zeros_(model.get_parameter("fc.bias"))
    return model
