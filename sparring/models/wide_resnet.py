"""Wide residual networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from ..component import require
from .base import PreActBlock, image_shape, residual_layer, stages


def wide_resnet(
    *, shape: Sequence[int], classes: int, depth: int = 28, widen: int = 10, drop: float = 0.0
) -> nn.Sequential:
    """Build WRN-depth-widen; on CIFAR-10 28-10 has 36,479,194 parameters, 34-10 has 46,160,474.

    Three stages have (depth − 4)/6 pre-activation blocks of (16, 32, 64) × widen channels.
    Convolutions start at N(0, 2 / (side² · out)).

    Source: Zagoruyko and Komodakis 2016, in the form of TRADES's code.
    Differs: without the second copy of the first block, which has parameters but never runs.

    >>> len(wide_resnet(shape=(3, 32, 32), classes=10, depth=16, widen=1).block1)
    2
    """
    channels, _, _ = image_shape(shape)
    whole = depth >= 10 and (depth - 4) % 6 == 0
    require(whole, "depth", depth, "6n + 4 with n >= 1, as 10, 16, 28, 34, 70")
    require(widen >= 1, "widen", widen, "at least 1")
    widths = [16, 16 * widen, 32 * widen, 64 * widen]
    shared = {"blocks": (depth - 4) // 6, "drop": drop}
    model = stages(
        conv1=nn.Conv2d(channels, 16, 3, padding=1, bias=False),
        block1=residual_layer(PreActBlock, widths[0], widths[1], stride=1, **shared),
        block2=residual_layer(PreActBlock, widths[1], widths[2], stride=2, **shared),
        block3=residual_layer(PreActBlock, widths[2], widths[3], stride=2, **shared),
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
